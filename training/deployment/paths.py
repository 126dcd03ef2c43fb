"""The parts of a network that some of its tasks read, and no others."""

from collections.abc import Collection, Mapping, Sequence

import torch
from torch import Tensor, nn

from training.network.model import Beside, Network
from training.network.pairs import PairBranch, split_pair
from training.network.tree_network import BOXES, Part, TreeNetwork
from training.tree import INPUT, TRUNK

__all__ = ["Paths"]


class Paths(nn.Module):
    """The paths of some tasks (codes) through a network in evaluation mode: what it reads -> the outputs of each task.

    Outputs are [B, K], and maps [B, C + 4, h, w] for a task of boxes.
    Shares its weights with `network`. Of a shared layer beside frozen features it keeps the units that these heads
    read. Rows of heads that nobody asked for are kept only beside other rows of the same node, when all tasks of the
    network are asked for: so the outputs stay those of the network to the last bit.

    `paired` says whether one of the tasks reads two frames: then it reads pairs (`training.network.pairs`), and what
    leads to such a task is computed for both frames.
    """

    def __init__(self, network: Network | TreeNetwork, codes: Collection[int]) -> None:
        super().__init__()
        self.parts, self.heads, self.boxes = nn.ModuleDict(), nn.ModuleDict(), nn.ModuleDict()
        self._maps: dict[int, list[str]] = {}
        self._stages: list[str] = []
        self._reads: dict[str, str] = {}
        self._places: dict[int, tuple[str, slice]] = {}
        self.before: nn.Linear | None = None
        self.paired = False
        self._boxes: dict[int, str] = {}
        if isinstance(network, TreeNetwork):
            self._take_tree(network, frozenset(codes))
        else:
            self._take_plain(network, sorted(codes))
        joined = [name for name, part in self.parts.items() if isinstance(part, PairBranch)]
        self.paired = bool(joined) or self.before is not None
        self._twice = {TRUNK} if self.before is not None else set()
        for name in joined:
            while (name := self._reads[name]) != INPUT:
                self._twice.add(name)

    def forward(self, inputs: Tensor) -> dict[int, Tensor]:
        """The outputs of each task, by code."""
        pair = split_pair(inputs) if self.paired else None
        at, earlier = {INPUT: inputs if pair is None else pair.now}, dict[str, Tensor]()
        if pair is not None:
            earlier[INPUT] = pair.before
        for name, part in self.parts.items():
            reads = self._reads[name]
            if pair is not None and isinstance(part, PairBranch):
                at[name], *maps = part(at[reads], earlier[reads], pair.flag)
                at |= {f"{name}:{stage}": each for stage, each in zip(self._stages, maps, strict=False)}
                continue
            at[name] = part(at[reads])
            if name in self._twice:
                earlier[name] = part(earlier[reads])
        rows = {node: head(at[self._reads[f"{node} heads"]]) for node, head in self.heads.items()}
        if pair is not None and self.before is not None:
            rows["heads"] = rows["heads"] + self.before(
                torch.cat([earlier[TRUNK] * pair.flag, pair.flag.float()], dim=1)
            )
        found = {code: rows[node][:, columns] for code, (node, columns) in self._places.items()}
        for code, name in self._boxes.items():
            found[code] = self.boxes[name]([at[place] for place in self._maps[code]])
        return found

    def _take_plain(self, network: Network, codes: Sequence[int]) -> None:
        columns = network.losses.layout.columns
        head, branch = network.heads, network.branch
        kept = [row for code in codes for row in range(columns[code].start, columns[code].stop)]
        if network.before is not None and network.before.weight[kept].any():
            self.before = network.before if len(codes) == len(columns) else _some_rows(network.before, kept)
        if len(codes) < len(columns):
            head, columns = _some_rows(head, kept), _side_by_side({code: columns[code] for code in codes})
        if isinstance(branch, Beside):
            branch, head = _read_units(branch, head, network.width)
        self._add(TRUNK, network.trunk, INPUT)
        if not isinstance(branch, nn.Identity):
            self._add("shared", branch, TRUNK)
        self._add_heads("heads", head, list(self.parts)[-1], columns)

    def _take_tree(self, network: TreeNetwork, codes: frozenset[int]) -> None:
        stages = [name for name in network.parts() if name.startswith(f"{TRUNK}:")]
        before = dict(zip(stages, [INPUT, *stages], strict=False))
        parents = {node.name: stages[-1] if node.parent == TRUNK else node.parent for node in network.nodes}
        for name, part in network.parts().items():
            if name.startswith(f"{BOXES}:"):
                self._take_boxes(name.removeprefix(f"{BOXES}:"), part, codes, network)
            elif part.readers & codes:
                self._add(name, part.module, before.get(name) or parents[name])
        places = {code: network.rows(code) for code in codes if network.node_of(code)}
        whole = len(codes) == len(network.losses.layout.columns)
        for node in dict.fromkeys(name for name, _ in places.values()):
            head, columns = network.head(node), {code: span for code, (name, span) in places.items() if name == node}
            if not whole:
                kept = [row for span in columns.values() for row in range(span.start, span.stop)]
                head, columns = _some_rows(head, kept), _side_by_side(columns)
            self._add_heads(node, head, stages[-1] if node == TRUNK else node, columns)

    def _take_boxes(self, name: str, part: Part, codes: frozenset[int], network: TreeNetwork) -> None:
        """The head of a task of boxes, where it is one of `codes`."""
        for code in part.readers & codes:
            self.boxes[name], self._boxes[code] = part.module, name
            self._maps[code], self._stages = network.maps_read(code), network.map_stages

    def _add(self, name: str, part: nn.Module, reads: str) -> None:
        self.parts[name] = part
        self._reads[name] = reads

    def _add_heads(self, node: str, head: nn.Module, reads: str, columns: Mapping[int, slice]) -> None:
        self.heads[node] = head
        self._reads[f"{node} heads"] = reads
        self._places |= {code: (node, span) for code, span in columns.items()}


@torch.no_grad()
def _some_rows(head: nn.Linear, rows: Sequence[int]) -> nn.Linear:
    made = nn.Linear(head.in_features, len(rows), bias=head.bias is not None)
    made.weight.copy_(head.weight[rows])
    if head.bias is not None:
        made.bias.copy_(head.bias[rows])
    return made.requires_grad_(False)


def _side_by_side(columns: Mapping[int, slice]) -> dict[int, slice]:
    """The same widths, one after the other."""
    found, start = {}, 0
    for code, span in columns.items():
        found[code] = slice(start, start + span.stop - span.start)
        start = found[code].stop
    return found


@torch.no_grad()
def _read_units(branch: Beside, head: nn.Linear, width: int) -> tuple[nn.Module, nn.Linear]:
    """The branch and the heads [O, width + U] without the units that no head reads."""
    read = head.weight[:, width:].any(dim=0).nonzero().flatten()
    made = nn.Linear(width + len(read), head.out_features)
    made.weight.copy_(torch.cat([head.weight[:, :width], head.weight[:, width + read]], dim=1))
    made.bias.copy_(head.bias)
    if not len(read):
        return nn.Identity(), made.requires_grad_(False)
    kept = Beside(width, len(read))
    kept.hidden.weight.copy_(branch.hidden.weight[read])
    kept.hidden.bias.copy_(branch.hidden.bias[read])
    return kept.requires_grad_(False), made.requires_grad_(False)
