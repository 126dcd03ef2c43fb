"""How common each class of a multilabel task is in nature and among a plan's draws, and what follows for its logit.

The draws of a task take images by their rarest class, so a class may be far more common in them than in nature. The
logit of each class is moved by the difference of the two log odds (Saerens et al. 2002, "Adjusting the outputs of a
classifier to new a priori probabilities"): exact where the draws change how common the class is and not how it looks,
and a first-order correction otherwise. The order of the images by a class, and so its average precision, stays.
"""

import numpy as np

from curation.arrays import Floats
from samplers.plan.plan import Plan
from samplers.plan.presence import class_spans

__all__ = ["class_shift", "drawn_presence", "shifted"]


def drawn_presence(plan: Plan, code: int) -> Floats:
    """The share [C] of the draws of multilabel task `code`, in the plan's last phase, that each class is there in.

    Over the labels that say so; NaN for a class that none knows.
    """
    mine = plan.label_task == code
    weights = plan.q[-1, plan.cell(plan.label_task[mine], plan.label_stratum[mine])]
    states = plan.presence(plan.label_sample[mine])[:, class_spans([task.task for task in plan.tasks])[code]]
    there, known = weights @ (states == 1), weights @ (states >= 0)
    found: Floats = np.full(len(known), np.nan)
    np.divide(there, known, out=found, where=known > 0)
    return found


def class_shift(drawn: Floats, natural: Floats) -> Floats:
    """What is added to the logit of each class [C] for natural probabilities; 0 where either share is not known.

    >>> class_shift(np.array([0.5, 0.5]), np.array([0.5, np.nan])).tolist()
    [0.0, 0.0]
    """
    usable = np.isfinite(drawn) & np.isfinite(natural) & (drawn > 0) & (drawn < 1)
    from_, to = (np.where(usable, part, 0.5) for part in (drawn, natural))
    return np.asarray(np.log(to / (1 - to)) - np.log(from_ / (1 - from_)), np.float64)


def shifted(chances: Floats, shift: Floats) -> Floats:
    """Probabilities [n, C] whose log odds are moved by `shift` [C].

    >>> shifted(np.array([[0.5]]), np.array([np.log(3.0)])).round(6).tolist()
    [[0.75]]
    """
    odds = np.exp(shift)
    return np.asarray(chances * odds / (chances * odds + (1 - chances)), np.float64)
