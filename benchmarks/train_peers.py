"""Steps of torchjd and LibMTL on the network of `train_steps`, in an environment of their own, without Amber.

python train_peers.py reads lines `ARM TASKS TRUNK` from its input (TRUNK is "small" or "features") and answers each by
one line: the seconds of processor that one step took. Tasks, sizes and labels are those of `train_steps`; torchjd gets
only the losses of tasks with a label in the batch, LibMTL, which takes no missing label, every label.
"""

import sys
import time
import types

import torch
from torch import nn
from torch.nn import functional

BATCH, HIDDEN, WIDTH, KNOWN = 64, 256, 2_648, 0.2
KINDS = ("binary", "categorical", "regression", "categorical")


class Pool(nn.Module):
    """Mean and maximum of maps in 2 x 2 cells."""

    def forward(self, maps):
        cells = functional.adaptive_avg_pool2d(maps, 2), functional.adaptive_max_pool2d(maps, 2)
        return torch.cat([part.flatten(1) for part in cells], dim=1)


def small_trunk() -> nn.Sequential:
    """The small trunk of Amber: [B, 3, 80, 128] -> [B, 1024]."""
    layers = []
    for before, after in ((3, 16), (16, 48), (48, 96), (96, 128)):
        conv = nn.Conv2d(before, after, 3, stride=2, padding=1, bias=False)
        layers += [conv, nn.GroupNorm(8, after), nn.ReLU()]
    return nn.Sequential(*layers, Pool())


def encoder(trunk: str) -> nn.Sequential:
    """What all tasks share: the trunk and a hidden layer."""
    first, width = (small_trunk(), 1_024) if trunk == "small" else (nn.Identity(), WIDTH)
    return nn.Sequential(first, nn.Linear(width, HIDDEN), nn.GELU())


def outputs_of(number: int) -> int:
    """The outputs of task `number`."""
    return 3 + number % 10 if KINDS[number % 4] == "categorical" else 1


class Labels:
    """A batch for so many tasks."""

    def __init__(self, tasks: int, trunk: str) -> None:
        generator = torch.Generator().manual_seed(0)
        self.inputs = torch.randn(BATCH, 3, 80, 128) if trunk == "small" else torch.randn(BATCH, WIDTH)
        self.known = torch.rand(BATCH, tasks, generator=generator) < KNOWN
        self.values = torch.randint(0, 2, (BATCH, tasks), generator=generator).float()

    def loss(self, number: int, outputs: torch.Tensor, known: torch.Tensor | slice) -> torch.Tensor:
        """The loss of one task over its `known` draws."""
        outputs, target = outputs[known], self.values[known, number]
        if KINDS[number % 4] == "binary":
            each = functional.binary_cross_entropy_with_logits(outputs[:, 0], target, reduction="sum")
        elif KINDS[number % 4] == "regression":
            each = 0.5 * ((outputs[:, 0] - target) ** 2).sum()
        else:
            each = functional.cross_entropy(outputs, target.long(), reduction="sum")
        return each / BATCH


def torchjd_arm(name: str, tasks: int, trunk: str):
    """A step of an aggregator by `mtl_backward`."""
    from torchjd import aggregation
    from torchjd.autojac import jac_to_grad, mtl_backward

    shared, heads = encoder(trunk), nn.ModuleList(nn.Linear(HIDDEN, outputs_of(n)) for n in range(tasks))
    aggregator, labels = getattr(aggregation, name)(), Labels(tasks, trunk)
    parameters = [*shared.parameters(), *heads.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=1e-3, weight_decay=0.01, fused=True)
    own = list(shared.parameters())

    def step() -> None:
        optimizer.zero_grad()
        seen = shared(labels.inputs)
        there = [n for n in range(tasks) if labels.known[:, n].any()]
        losses = [labels.loss(n, heads[n](seen), labels.known[:, n]) for n in there]
        mtl_backward(losses, features=seen, parallel_chunk_size=CHUNKS.get(trunk))
        jac_to_grad(own, aggregator)
        optimizer.step()

    return step


CHUNKS = {"small": 1}
"""A row of the Jacobian after the other where that is faster than torch.vmap: on convolutions."""


def libmtl_arm(name: str, tasks: int, trunk: str):
    """A step of a weighting on hard parameter sharing, as LibMTL's trainer composes them."""
    stub = types.ModuleType("torchvision.models.utils")
    stub.load_state_dict_from_url = None
    for part in ("torchvision", "torchvision.models"):
        sys.modules.setdefault(part, types.ModuleType(part))
    sys.modules["torchvision.models.utils"] = stub
    from LibMTL import weighting
    from LibMTL.architecture import HPS

    names = [f"t{number}" for number in range(tasks)]
    decoders = nn.ModuleDict({task: nn.Linear(HIDDEN, outputs_of(number)) for number, task in enumerate(names)})

    class Model(HPS, getattr(weighting, name)):
        def __init__(self) -> None:
            super().__init__(names, lambda: encoder(trunk), decoders, False, False, torch.device("cpu"))
            self.init_param()

    model, labels = Model(), Labels(tasks, trunk)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.01, fused=True)

    def step() -> None:
        found = model(labels.inputs)
        losses = [labels.loss(number, found[task], slice(None)) for number, task in enumerate(names)]
        optimizer.zero_grad()
        model.backward(torch.stack(losses))
        optimizer.step()

    return step


def main() -> None:
    """Answer every line of the input."""
    torch.set_num_threads(int(sys.argv[1]) if len(sys.argv) > 1 else 1)
    torch.manual_seed(0)
    made = {}
    for line in sys.stdin:
        arm, tasks, trunk = line.split()
        if (arm, tasks, trunk) not in made:
            make, _, name = arm.partition(":")
            make = torchjd_arm if make == "torchjd" else libmtl_arm
            made[arm, tasks, trunk] = make(name, int(tasks), trunk)
            made[arm, tasks, trunk]()
        started = time.process_time()
        made[arm, tasks, trunk]()
        sys.stdout.write(f"{time.process_time() - started}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
