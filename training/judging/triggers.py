"""What fires of the triggers of a run, and whether it errs there more than elsewhere."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.arrays import Bools, Floats
from curation.catalog.snapshot import Snapshot
from curation.files.read_back import read_parquet
from curation.requests.triggers import Trigger, Triggers
from curation.rows import tabled
from training.evaluation.figures import labelled
from training.evaluation.group_order import groups_first
from training.evaluation.intervals import Figure, mean_of, proportion
from training.evaluation.labelled_boxes import LabelledBoxes
from training.evaluation.predictions import Samples
from training.judging.trained_images import trained_labels

__all__ = ["FiredTrigger", "fired_triggers"]


@dataclass(frozen=True, kw_only=True)
class FiredTrigger:
    """A trigger of the label of `task` (in `unit`, "" for classes).

    Of the images that `could` fire it so many have `fired`, from so many `groups`; of these the label of so many is
    `known`.

    The other figures are over labels that the run was not trained on: the share predicted wrong, or the mean absolute
    error, of what fired (`error`), of all others that could fire (`others`), and of as many as fired about which the
    run is least sure (`least_sure`; without data for numbers). `shared` is the share of what fired among as many least
    sure of all images that could; None without confidences. A trigger that asks for labels again has no such figures,
    since the label is what it doubts.
    """

    trigger: str
    task: str
    unit: str
    predicate: str
    could: int
    fired: int
    groups: int
    known: int
    error: Figure
    others: Figure
    least_sure: Figure
    shared: float | None
    keys: tuple[str, ...]


@tabled(FiredTrigger)
def fired_triggers(
    now: Snapshot, home: Path, triggers: Triggers, chosen: Sequence[Trigger], *, split: str = ""
) -> list[FiredTrigger]:
    """The `chosen` triggers over the images of a split ("": all) that are not excluded.

    `keys` of each are those of what fired, one of each group first, the least sure first.
    """
    samples, rows = Samples.at(now), now.samples()
    here = np.asarray(pc.invert(rows["excluded"]).to_numpy(), np.bool_)
    if split:
        here &= np.asarray(samples.splits == split, np.bool_)
    trained = trained_labels(now, home, triggers.run) or {}
    table = read_parquet(now.runs.predictions_file(home, triggers.run), "evaluate the run again")
    tasks = dict.fromkeys(part.task for part in chosen)
    judged = {name: _judged(now, name, samples, table, trained.get(name)) for name in tasks}
    return [_fired(triggers, part, samples, here, judged[part.task]) for part in chosen]


@dataclass(frozen=True, kw_only=True)
class _Judged:
    """Of one task, which samples [N] have a label, the error [N] of the run where it was not trained on this label (NaN
    elsewhere), the weights [N] of labels, and the unit of numbers."""

    labelled: Bools
    errors: Floats
    weights: Floats
    unit: str
    samples: Samples

    def figure(self, here: Bools) -> Figure:
        """The error on the samples that `here` [N] marks, as far as it is known."""
        rows = np.flatnonzero(here & np.isfinite(self.errors))
        of = mean_of if self.unit else proportion
        return of(self.errors[rows], self.weights[rows], self.samples.groups[rows])


def _judged(now: Snapshot, name: str, samples: Samples, table: pa.Table, trained: pa.Array | None) -> _Judged:
    task = now.task(name)
    predictions = labelled(now, task, samples, table)
    assert not isinstance(predictions, LabelledBoxes)
    errors, weights = np.full(len(samples.ids), np.nan), np.zeros(len(samples.ids))
    weights[predictions.rows] = predictions.weights
    errors[predictions.rows] = predictions.errors if task.unit else predictions.errors > 0
    known = np.isfinite(errors)
    errors[weights == 0] = np.nan
    if trained is not None:
        errors[np.asarray(pc.is_in(samples.keys, value_set=trained).to_numpy(zero_copy_only=False), np.bool_)] = np.nan
    return _Judged(labelled=known, errors=errors, weights=weights, unit=task.unit, samples=samples)


def _fired(triggers: Triggers, part: Trigger, samples: Samples, here: Bools, judged: _Judged) -> FiredTrigger:
    ids, able = triggers.fired(part)
    fired, could = samples.marked(ids) & here, samples.marked(able) & here
    sure = np.full(len(samples.ids), np.nan)
    rows = np.flatnonzero(could)
    sure[rows] = triggers.confidence(part.task, samples.ids[rows])
    told = np.zeros(len(fired), np.bool_) if part.asks_again else np.isfinite(judged.errors)
    unsure = _least_sure(sure, could & told, int((fired & told).sum()))
    among = _least_sure(sure, could, int(fired.sum()))
    shown = np.flatnonzero(fired)
    shown = shown[np.argsort(sure[shown], kind="stable")]
    return FiredTrigger(
        trigger=part.name, task=part.task, unit=judged.unit, predicate=part.predicate, could=int(could.sum()),
        fired=int(fired.sum()),
        groups=len(np.unique(samples.groups[fired])), known=int((fired & judged.labelled).sum()),
        error=judged.figure(fired & told), others=judged.figure(could & ~fired & told),
        least_sure=judged.figure(unsure),
        shared=float((among & fired).sum() / fired.sum()) if among.any() else None,
        keys=tuple(str(samples.keys[int(row)]) for row in groups_first(shown, samples.groups).tolist()),
    )  # fmt: skip


def _least_sure(sure: Floats, pool: Bools, count: int) -> Bools:
    """The `count` samples of a pool [N] of which the run is least sure; none where it tells no confidence."""
    rows = np.flatnonzero(pool & np.isfinite(sure))
    chosen = np.zeros(len(sure), np.bool_)
    if len(rows) >= count:
        chosen[rows[np.argsort(sure[rows], kind="stable")][:count]] = True
    return chosen
