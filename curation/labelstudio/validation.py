"""Validation of labelling configs and pre-annotations by Label Studio's own rules, before they are sent.

The server checks neither annotations nor, without a feature flag, predictions.
"""

from collections.abc import Sequence

from curation.errors import BadInput
from curation.labelstudio.annotations import Result
from curation.labelstudio.label_config import LabelConfig
from curation.labelstudio.session import VERSION

__all__ = ["PageValidator"]


class PageValidator:
    """Validates one labelling page and results for it. BadInput when Label Studio would refuse the page's config."""

    def __init__(self, page: LabelConfig) -> None:
        from label_studio_sdk.label_interface import LabelInterface  # of the extra `labeling`

        try:
            self._interface = LabelInterface(page.xml)
            self._interface.validate()
        except Exception as error:  # the SDK's two errors have no common base
            reason = " ".join(str(error).split())[:200]
            names = ", ".join(page.names)
            raise BadInput(f"task {names}: no valid labelling config ({reason}); rename the task or a class") from error

    def errors(self, results: Sequence[Result]) -> list[str]:
        """The errors that Label Studio finds in these results; none if they fit the page."""
        prediction = {"model_version": VERSION, "score": 0.0, "result": list(results)}
        return list(self._interface.validate_prediction(prediction, return_errors=True))
