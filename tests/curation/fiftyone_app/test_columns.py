"""The columns of the mirror, without a database."""

from curation.catalog.tasks import Task
from curation.fiftyone_app.columns import share_wrong


def test_a_label_that_looked_for_no_class_is_no_error() -> None:
    """As after a merge of the only class that it looked for."""
    task = Task(name="seen", kind="multilabel", classes=("car", "bus"), owner="ada")
    assert share_wrong(task, {"looked": [], "codes": []}, [1]) == 0
    assert share_wrong(task, {"looked": [1], "codes": []}, [1]) == 1
