"""Taking over what another network knows of attributes of boxes: attributes and their classes by name."""

import torch
from torch import nn

from samplers.plan.box_attributes import BoxAttribute, attribute_columns
from samplers.plan.plan import PlanTask
from training.network.detection import BoxHead

__all__ = ["take_attributes"]


@torch.no_grad()
def take_attributes(heads: tuple[BoxHead, BoxHead], task: PlanTask, before: PlanTask) -> list[str]:
    """Copy what the second head holds of attributes into the first, by the names of attributes and classes.

    A number keeps its unit: its rows are scaled. Returns a line for each attribute or class that starts from
    scratch, or is left out.
    """
    mine, theirs = (head.attributes for head in heads)
    old = {each.name: (each, rows) for each, rows in attribute_columns(before.attributes)}
    own = {each.name for each in task.attributes}
    found = [f"{task.name}: attribute {name} of before is left out" for name in old if name not in own]
    if mine is None or theirs is None:
        return [f"{task.name}: attribute {name} starts from scratch" for name in own] + found
    for place, layer in enumerate(list(mine)[:-1]):
        layer.load_state_dict(theirs[place].state_dict())
    for each, rows in attribute_columns(task.attributes):
        if each.name not in old or bool(each.classes) != bool(old[each.name][0].classes):
            found.append(f"{task.name}: attribute {each.name} starts from scratch")
        else:
            found += _take(task.name, (_last(mine), rows, each), (_last(theirs), old[each.name][1], old[each.name][0]))
    return found


def _take(
    task: str, mine: tuple[nn.Conv2d, slice, BoxAttribute], theirs: tuple[nn.Conv2d, slice, BoxAttribute]
) -> list[str]:
    """Copy the rows of one attribute."""
    (layer, rows, each), (old_layer, old_rows, old) = mine, theirs
    assert layer.bias is not None
    assert old_layer.bias is not None
    weight, bias = layer.weight[rows], layer.bias[rows]
    old_weight, old_bias = old_layer.weight[old_rows], old_layer.bias[old_rows]
    if not each.classes:
        weight.copy_(old_weight * (old.deviation / each.deviation))
        bias.copy_((old_bias * old.deviation + old.mean - each.mean) / each.deviation)
        return []
    places = {name: place for place, name in enumerate(old.classes)}
    for place, name in enumerate(each.classes):
        if name in places:
            weight[place], bias[place] = old_weight[places[name]], old_bias[places[name]]
    new = [name for name in each.classes if name not in places]
    gone = [name for name in places if name not in each.classes]
    what = f"{task}: class {{}} of attribute {each.name}"
    return [f"{what.format(name)} starts from scratch" for name in new] + [
        f"{what.format(name)} of before is left out" for name in gone
    ]


def _last(layers: nn.Sequential) -> nn.Conv2d:
    last: nn.Module = layers[-1]
    assert isinstance(last, nn.Conv2d)
    return last
