"""A trained network as files for other programs: ONNX, torch.export, safetensors, and what they mean as JSON."""

import io
import json
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from safetensors.torch import save
from torch import nn

from curation.catalog.catalog import Catalog
from curation.errors import BadInput
from curation.files.atomic import whole
from curation.files.progress import Progress
from curation.files.read_back import one_line, sha256_of
from samplers.pack.pack import Pack
from samplers.plan.plan import Plan
from samplers.streaming.frame_pairs import gap_of, pairs_of
from training.deployment.check import Answers, Differences, Inputs, compare, reference
from training.deployment.deployed import Deployed, deployed
from training.evaluation.features import GREY
from training.recipe import BoxRecipe
from training.report.run_results import registered_run, verified_predictions
from training.run import Run

__all__ = ["DESCRIPTION", "Exported", "export_model"]

FORMAT = 1
DESCRIPTION = "model.json"
FILES = ("model.onnx", "model.pt2", "weights.safetensors")
LIBRARIES = ("torch", "onnx", "onnxruntime", "onnxscript", "safetensors", "numpy")
LARGEST_BATCH = 4096
STAGES = 4

BOX = [
    "code of the class",
    "left edge, as a part of the image's width",
    "top edge, as a part of its height",
    "width, as a part of its width",
    "height, as a part of its height",
    "score; boxes by falling score",
]
"""What the columns of a task of boxes are."""

STEPS = {
    "stretch": "resize to height x width, whatever its shape",
    "letterbox": "resize so that it just fits into height x width and keeps its shape; put it in the middle of grey",
    "crop": "resize so that it just covers height x width and keeps its shape; take the middle",
}


@dataclass(frozen=True, kw_only=True)
class Exported:
    """An exported network: its folder, the names of its tasks, and how far it is from the run that it came from."""

    folder: Path
    tasks: tuple[str, ...]
    differences: Differences


def export_model(
    run: Run, catalog: Catalog, folder: Path, *, tasks: Sequence[str] = (), progress: Progress | None = None
) -> Exported:
    """Write the network of an evaluated run into the new `folder`, whole or not at all.

    With `tasks`, only their paths through the network. The folder gets `model.onnx`, `model.pt2` (torch.export),
    `weights.safetensors` and `model.json`. Both networks take uint8 RGB images [B, 3, H, W] as `images` and give the
    natural class probabilities [B, C], the numbers [B] or the boxes [B, M, 6] of each task; where a task reads two
    frames, they also take `before`, as `images`, and `has_before` [B]. Before the folder appears they are run on 256
    images of the run's pack; `model.json` has the largest differences from PyTorch and from the recorded predictions.

    BadInput where the folder exists, for an unknown task, and for a trunk that torch.export or ONNX cannot hold;
    NotFound where the run was not evaluated; Damaged where its weights or predictions are not what was written; Failed
    where the folder cannot be written or a network differs by more than 1e-4.
    """
    if folder.exists():
        raise BadInput(f"{folder}: exists already; name a folder that does not")
    with catalog.read() as now:
        recorded = verified_predictions(catalog.home, registered_run(now, run.id))
    torch.set_num_threads(run.recipe.threads)
    network = deployed(run, catalog, tasks)
    plan = Plan.open(catalog.home, run.plan)
    pack = Pack.open(catalog.home, plan.pack_hash)
    report = progress or (lambda done, total: None)
    with whole(folder) as part:
        part.mkdir()
        known = reference(network, pack, recorded, pairs_of(plan, catalog.home, pack) if network.paired else None)
        report(1, STAGES)
        program = _exported(network)
        _write(part / "model.pt2", program)
        report(2, STAGES)
        (part / "model.onnx").write_bytes(_onnx(network, program))
        report(3, STAGES)
        weights = {name: value.contiguous() for name, value in network.state_dict().items()}
        (part / "weights.safetensors").write_bytes(save(weights, {"run": run.id, "plan": run.plan}))
        differences = compare(known, onnx=_onnx_answers(part, network), export=_export_answers(part))
        words = _description(network, run, differences, {name: sha256_of(part / name) for name in FILES})
        (part / DESCRIPTION).write_text(json.dumps(words, indent=1), encoding="utf-8")
        report(STAGES, STAGES)
    return Exported(folder=folder, tasks=tuple(task.name for task in network.tasks), differences=differences)


def _exported(network: Deployed) -> torch.export.ExportedProgram:
    images = torch.zeros(2, 3, *network.recipe.size, dtype=torch.uint8)
    taken = {"images": images, "before": images.clone(), "has_before": torch.ones(2, dtype=torch.bool)}
    batch = torch.export.Dim("batch", min=1, max=LARGEST_BATCH)
    names = _names(network)
    shapes = {name: {0: batch} if name in names else None for name in taken}
    arguments = tuple(part if name in names else None for name, part in taken.items())
    with _understood(network), torch.no_grad():
        return torch.export.export(
            network, arguments[: len(names)], dynamic_shapes={name: shapes[name] for name in names}
        )


def _names(network: Deployed) -> list[str]:
    """The names of what the network takes."""
    return ["images", "before", "has_before"] if network.paired else ["images"]


def _onnx(network: Deployed, program: torch.export.ExportedProgram) -> bytes:
    names = [task.name for task in network.tasks]
    with _understood(network), torch.no_grad():
        made = torch.onnx.export(program, dynamo=True, input_names=_names(network), output_names=names, verbose=False)
        assert made is not None
        model = made.model_proto
    for name, value in (("run", network.run_id), ("tasks", ",".join(names))):
        entry = model.metadata_props.add()
        entry.key, entry.value = name, value
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


@contextmanager
def _understood(network: Deployed) -> Iterator[None]:
    """BadInput where torch.export or ONNX cannot hold a network; their notes on what they skip are not shown."""
    log = logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except (RuntimeError, ValueError, TypeError, KeyError, AssertionError) as error:
        raise BadInput(
            f"run {network.run_id}: its trunk {network.recipe.trunk} cannot be exported ({one_line(error)}); write it "
            "with operators of ONNX and without branches that depend on pixels"
        ) from error
    finally:
        log.setLevel(level)


def _write(path: Path, program: torch.export.ExportedProgram) -> None:
    buffer = io.BytesIO()  # torch reports a full disk only as a failure
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.export.save(program, buffer)
    path.write_bytes(buffer.getbuffer())


def _onnx_answers(folder: Path, network: Deployed) -> Callable[[Inputs], Answers]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = network.recipe.threads
    session = onnxruntime.InferenceSession(str(folder / "model.onnx"), options, providers=["CPUExecutionProvider"])
    names = [part.name for part in session.get_outputs()]

    def answers(inputs: Inputs) -> Answers:
        given = {name: np.ascontiguousarray(part) for name, part in inputs.items()}
        return dict(zip(names, session.run(names, given), strict=True))

    return answers


def _export_answers(folder: Path) -> Callable[[Inputs], Answers]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module: nn.Module = torch.export.load(folder / "model.pt2").module()

    def answers(inputs: Inputs) -> Answers:
        with torch.no_grad():
            given = (torch.from_numpy(np.asarray(part)) for part in inputs.values())
            return {name: answer.numpy() for name, answer in module(*given).items()}

    return answers


def _description(network: Deployed, run: Run, differences: Differences, files: dict[str, str]) -> dict[str, Any]:
    height, width = run.recipe.size
    return {
        "format": FORMAT,
        "run": run.id, "parent": run.parent, "plan": run.plan, "commit": run.commit, "revision": run.revision,
        "trunk": run.recipe.trunk,
        "libraries": {name: version(name) for name in LIBRARIES},
        "input": {
            "name": "images", "type": "uint8", "shape": ["batch", 3, height, width], "colours": "RGB",
            "largest batch": LARGEST_BATCH,
        },
        **({"frames": _frames(network)} if network.paired else {}),
        "preprocessing": {
            "fit": run.recipe.fit, "height": height, "width": width, "grey": GREY,
            "steps": [
                "decode to 8-bit RGB, upright by its EXIF orientation",
                "a JPEG may be decoded at the smallest multiple of 1/8 that is not below the size that it gets",
                f"{STEPS[run.recipe.fit]}, by a bilinear filter with antialiasing (Pillow)",
                "no scaling of values: the network does that",
            ],
        },
        "tasks": [_task(network, code) for code in range(len(network.tasks))],
        "check": differences.words,
        "files": files,
    }  # fmt: skip


def _frames(network: Deployed) -> dict[str, Any]:
    """The further inputs of a network that reads two frames, and which frame is the one before."""
    gap = gap_of([task.task for task in network.tasks])
    return {
        "before": "uint8, as images: the frame before each image", "has_before": "bool [batch]: whether there is one",
        "rule": f"the last earlier frame of the same group, at most {gap:g} s before", "gap": gap,
        "tasks": [task.name for task in network.tasks if task.task.inputs == 2],
    }  # fmt: skip


def _task(network: Deployed, number: int) -> dict[str, Any]:
    part = network.tasks[number]
    task = part.task
    common = {"name": task.name, "kind": task.kind, "owner": part.owner, "description": task.description}
    if task.kind == "detection":
        attributes = [
            f"{each.name} = {name}" if name else each.name for each in part.attributes for name in each.classes or ("",)
        ]
        columns = [*BOX, *attributes]
        return common | {
            "classes": list(task.classes), "columns": columns,
            "shape": ["batch", (network.recipe.boxes or BoxRecipe()).most, len(columns)],
        }  # fmt: skip
    if not task.classes:
        return common | {"unit": task.unit, "shape": ["batch"], "mean": part.mean, "deviation": part.deviation}
    decision = task.decision
    return common | {
        "classes": list(task.classes), "shape": ["batch", len(task.classes)],
        "decide": dict(decision) if isinstance(decision, tuple) else decision,
        "prior": [float(value) for value in network.priors[task.name]],
        "adjustment": network.adjustments[task.name],
    }  # fmt: skip
