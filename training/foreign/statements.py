"""What a table of predictions states: for each task, which samples, and their probabilities, classes or numbers.

A table is *wide* or *long*. A wide table has a row for each sample: `key`, and columns named after tasks: `TASK` (a
class, a number, the probability of true, or a list of probabilities in the order of the classes), `TASK.CLASS` (a
probability) and `TASK.confidence`. A long one has a row for each (sample, task): `key`, `task`, and `class`,
`confidence`, `number` or `probabilities`. With the name of its only task given, a table needs no column `task`, and its
columns may be classes.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.arrays import Bools, Floats, Ints
from curation.catalog.tasks import Task
from curation.errors import BadInput
from curation.ingestion.readers.cells import label_columns, numbers
from curation.ingestion.readers.findings import BadEntry, Findings
from curation.ingestion.readers.table_files import SourceTable

__all__ = ["Statement", "positions", "statements"]

SLACK: Final = 1e-3
"""How far probabilities may be from adding up to 1: what float16 rounds off."""

LONG: Final = ("key", "task", "class", "confidence", "number", "probabilities")
JUDGED: Final = ("binary", "categorical", "multilabel", "regression")


@dataclass(frozen=True, kw_only=True)
class Statement:
    """What a file predicts for one task: n samples, as rows of the file and as positions in the catalog's keys.

    Of classes it holds `chances` [n, C], which add up to 1 except of a multilabel task, or `codes` [n] with their
    `confidence` [n] (NaN: none); of a regression task `numbers` [n]. The others are None.
    """

    task: Task
    rows: Ints
    samples: Ints
    chances: Floats | None = None
    codes: Ints | None = None
    confidence: Floats | None = None
    numbers: Floats | None = None


@dataclass(frozen=True, kw_only=True)
class _Part:
    """The columns of a table that are about one task, with n cells each, and the rows [n] of the table."""

    task: Task
    rows: Ints
    columns: dict[str, pa.ChunkedArray]
    by_class: dict[int, pa.ChunkedArray] = field(default_factory=dict)
    sparse: bool = True


def statements(source: SourceTable, keys: pa.Array, tasks: Mapping[str, Task], *, only: str = "") -> list[Statement]:
    """The predictions of a table, by task in the order of the catalog.

    `keys` are those of the catalog, `only` the name of the only task of a table that names none. BadInput is one line
    with the row, the value and the rule: unknown samples, tasks and classes, a sample twice for a task, probabilities
    that are no numbers in [0, 1] or do not add up to 1, numbers that are not finite, columns of no meaning.
    """
    samples = positions(source, keys)
    found = [_statement(source, part, samples, keys) for part in _parts(source, tasks, only)]
    found = [part for part in found if len(part.rows)]
    if not found:
        raise BadInput(f"{source.name}: no row predicts anything; its columns are {_listed(source)}")
    order = list(tasks)
    return sorted(found, key=lambda part: order.index(part.task.name))


def positions(source: SourceTable, keys: pa.Array) -> Ints:
    """The position in `keys` of the sample of each row."""
    column = source.column("key").cast(pa.string())
    found = pc.fill_null(pc.index_in(column, value_set=keys), -1).to_numpy()
    if (found < 0).any():
        row = int((found < 0).argmax())
        value = column[row].as_py()
        if value is None:
            raise BadEntry(source.where(row), "", "has no key", "write the sample's key")
        raise BadEntry(source.where(row), f"key {value!r}", "is no sample of the catalog", "ingest it, or leave it out")
    return np.asarray(found, np.int64)


# Which columns are about which task


def _parts(source: SourceTable, tasks: Mapping[str, Task], only: str) -> Iterator[_Part]:
    names = source.table.column_names
    if only and "task" in names:
        raise BadInput(f"{source.name}: has a column 'task', so --task {only} is not needed; leave one of the two out")
    if only:
        yield _of_one_task(source, _judged(tasks[only], source.name))
    elif "task" in names:
        yield from _by_task(source, tasks)
    else:
        yield from _wide(source, tasks)


def _of_one_task(source: SourceTable, task: Task) -> _Part:
    """All rows of the table, about one task; columns named after its classes are probabilities."""
    columns, by_class = dict[str, pa.ChunkedArray](), dict[int, pa.ChunkedArray]()
    for name in source.table.column_names:
        if name in task.classes:
            by_class[task.classes.index(name)] = source.table[name]
        elif name in LONG and name != "task":
            columns[name] = source.table[name]
        else:
            raise _no_meaning(source, name, [*LONG, *task.classes])
    return _Part(task=task, rows=np.arange(len(source)), columns=columns, by_class=by_class, sparse=False)


def _by_task(source: SourceTable, tasks: Mapping[str, Task]) -> Iterator[_Part]:
    """A long table, task by task."""
    for name in source.table.column_names:
        if name not in LONG:
            raise _no_meaning(source, name, LONG)
    which = pc.fill_null(pc.index_in(source.column("task").cast(pa.string()), value_set=pa.array(list(tasks))), -1)
    codes = np.asarray(which.to_numpy(), np.int64)
    if (codes < 0).any():
        row = int((codes < 0).argmax())
        value = f"task {source.table['task'][row].as_py()!r}"
        raise BadEntry(source.where(row), value, "is no task of the catalog", f"they are {', '.join(tasks)}")
    for code, task in enumerate(tasks.values()):
        rows = np.flatnonzero(codes == code)
        if len(rows):
            _judged(task, source.where(int(rows[0])))
            mine = source.table.take(pa.array(rows))
            yield _Part(
                task=task, rows=rows, columns={name: mine[name] for name in mine.column_names}, sparse=False
            )  # fmt: skip


def _wide(source: SourceTable, tasks: Mapping[str, Task]) -> Iterator[_Part]:
    """A wide table, task by task; an empty cell is no prediction."""
    columns: dict[str, dict[str, pa.ChunkedArray]] = {}
    by_class: dict[str, dict[int, pa.ChunkedArray]] = {}
    for name in source.table.column_names:
        stem, _, rest = name.partition(".")
        task = tasks.get(stem)
        if name == "key":
            continue
        if task is None:
            raise _no_meaning(source, name, [*tasks, "task"])
        if not rest:
            columns.setdefault(stem, {})[_field(task, source.table[name])] = source.table[name]
        elif rest in task.classes:
            by_class.setdefault(stem, {})[task.classes.index(rest)] = source.table[name]
        elif rest == "confidence":
            columns.setdefault(stem, {})[rest] = source.table[name]
        else:
            raise BadInput(
                f"{source.name}: column {name!r}: {rest!r} is no class of {stem}; they are {', '.join(task.classes)}"
            )
    for name in dict.fromkeys([*columns, *by_class]):
        yield _Part(
            task=_judged(tasks[name], source.name), rows=np.arange(len(source)), columns=columns.get(name, {}),
            by_class=by_class.get(name, {}),
        )  # fmt: skip


def _field(task: Task, column: pa.ChunkedArray) -> str:
    """What a column that is named after a task holds."""
    if task.kind == "regression":
        return "number"
    if pa.types.is_list(column.type):
        return "probabilities"
    if task.kind != "binary" or pa.types.is_boolean(column.type):
        return "class"
    if pa.types.is_string(column.type):
        return "chance" if _as_floats(column) is not None else "class"
    return "chance"


def _judged(task: Task, where: str) -> Task:
    if task.kind not in JUDGED:
        boxes = (
            "its boxes need a file of their own" if task.kind == "detection" else "no predictions of it are judged yet"
        )
        raise BadInput(f"{where}: task {task.name} ({task.kind}): {boxes}; leave it out")
    return task


def _no_meaning(source: SourceTable, name: str, known: Sequence[str]) -> BadInput:
    return BadInput(
        f"{source.name}: column {name!r} is none that predictions have; rename it to one of {', '.join(known)}, or "
        "leave it out"
    )


def _listed(source: SourceTable) -> str:
    return ", ".join(source.table.column_names)


# What the cells of a task hold


def _statement(source: SourceTable, part: _Part, samples: Ints, keys: pa.Array) -> Statement:
    """The checked predictions of one task."""
    columns = {name: column for name, column in part.columns.items() if column.null_count < len(column)}
    if part.task.kind == "regression":
        values = _number_values(source, part, columns)
    else:
        values = _class_values(source, part, columns)
    given = values.pop("given")
    rows = part.rows[given]
    _refuse_twice(source, part.task, rows, samples[rows], keys)
    kept = {name: value[given] if name != "chances" else value for name, value in values.items()}
    return Statement(task=part.task, rows=rows, samples=samples[rows], **kept)


def _number_values(source: SourceTable, part: _Part, columns: Mapping[str, pa.ChunkedArray]) -> dict[str, Any]:
    if wrong := next((name for name in columns if name not in ("key", "task", "number")), "") or part.by_class:
        raise BadInput(
            f"{source.name}: task {part.task.name} is a regression, which has numbers and no {wrong or 'classes'}; "
            "leave that column empty"
        )
    column = _needed(source, part, columns, "number")
    found = _floats(source, part, column, part.task.name)
    given = _given(source, part, [column])
    _refuse(source, part, given & ~np.isfinite(found), lambda row: f"{part.task.name} = {found[row]}",
            "is no finite number", "correct it, or leave the prediction out")  # fmt: skip
    return {"given": given, "numbers": found}


def _class_values(source: SourceTable, part: _Part, columns: Mapping[str, pa.ChunkedArray]) -> dict[str, Any]:
    if "number" in columns:
        raise BadInput(f"{source.name}: task {part.task.name} has classes and no number; leave that column empty")
    ways = [name for name in ("probabilities", "chance", "class") if name in columns]
    ways += ["columns of its classes"] if part.by_class else []
    if len(ways) > 1:
        raise BadInput(
            f"{source.name}: task {part.task.name} is given by {' and by '.join(ways)}; leave one of them out: the "
            "class follows from probabilities by the task's own rule"
        )
    if not ways:
        _needed(source, part, columns, "class")
    if "class" in columns and part.task.kind == "multilabel":
        raise BadInput(
            f"{source.name}: {part.task.name} is a multilabel task, which is judged by a probability for each class; "
            f"write them as a list in `probabilities`, or in columns such as {part.task.name}.{part.task.classes[0]}"
        )
    if "class" in columns:
        return _named_classes(source, part, columns)
    if "confidence" in columns:
        raise BadInput(f"{source.name}: {part.task.name} has probabilities, so its confidence follows; leave it out")
    return _chances(source, part, columns)


def _named_classes(source: SourceTable, part: _Part, columns: Mapping[str, pa.ChunkedArray]) -> dict[str, Any]:
    """Predicted classes by name, with a confidence where there is one."""
    task, column = part.task, columns["class"]
    text = label_columns(task.kind, column, task.name, "", _where(source, part), Findings())["text"]
    codes = pc.fill_null(pc.index_in(text, value_set=pa.array(task.classes)), -1).to_numpy()
    given = _given(source, part, [column])
    _refuse(source, part, given & (codes < 0), lambda row: f"{column[row].as_py()!r}", f"is no class of {task.name}",
            f"they are {', '.join(task.classes)}")  # fmt: skip
    confidence: Floats = np.full(len(codes), np.nan)
    if "confidence" in columns:
        confidence = _floats(source, part, columns["confidence"], "confidence")
        stated = np.asarray(pc.is_valid(columns["confidence"]).to_numpy(), np.bool_)
        _refuse(source, part, given & stated & ~((confidence >= 0) & (confidence <= 1)),
                lambda row: f"confidence {confidence[row]:g}", "must be in [0, 1]", "correct it")  # fmt: skip
    return {"given": given, "codes": codes.astype(np.int64), "confidence": confidence}


def _chances(source: SourceTable, part: _Part, columns: Mapping[str, pa.ChunkedArray]) -> dict[str, Any]:
    """Probabilities of the classes, from a list in each row or from a column for each class."""
    task = part.task
    if "probabilities" in columns:
        given, chances = _listed_chances(source, part, columns["probabilities"])
    else:
        of = {1: columns["chance"]} if "chance" in columns else part.by_class
        if task.kind == "binary" and len(of) == 1:
            ((code, column),) = of.items()
            found = _floats(source, part, column, task.name)
            given, chances = _given(source, part, [column]), np.stack([1 - found, found][:: 1 if code else -1], axis=1)
        else:
            if missing := next((name for code, name in enumerate(task.classes) if code not in of), ""):
                raise BadInput(f"{source.name}: {task.name} has no probability of {missing!r}; add its column")
            each = [of[code] for code in range(len(task.classes))]
            given = _given(source, part, each)
            chances = np.stack(
                [_floats(source, part, one, f"{task.name}.{name}")
                 for one, name in zip(each, task.classes, strict=True)], axis=1,
            )  # fmt: skip
        chances = chances[given]
    _check_chances(source, part, np.flatnonzero(given), chances)
    if task.kind == "multilabel":
        return {"given": given, "chances": chances.clip(0, 1)}
    return {"given": given, "chances": chances / chances.sum(axis=1, keepdims=True)}


def _listed_chances(source: SourceTable, part: _Part, column: pa.ChunkedArray) -> tuple[Bools, Floats]:
    """Which rows have a list, and the probabilities [n, C] of those; of a binary task one number is that of true."""
    task, classes = part.task, len(part.task.classes)
    if not pa.types.is_list(column.type):
        raise BadInput(f"{source.name}: probabilities of {task.name} hold {column.type}; write a list in each row")
    given = _given(source, part, [column])
    lengths = pc.fill_null(pc.list_value_length(column), -1).to_numpy()
    single = task.kind == "binary" and bool((lengths[given] == 1).all())
    width = 1 if single else classes
    _refuse(source, part, given & (lengths != width), lambda row: f"{lengths[row]} probabilities",
            f"are not one for each of the {classes} classes of {task.name}", "write them in the order of the classes",
            )  # fmt: skip
    flat = pc.list_flatten(column.filter(pa.array(given)))
    if flat.null_count:
        row = int(np.flatnonzero(given)[int(pc.is_null(flat).to_numpy().argmax()) // width])
        raise BadEntry(source.where(int(part.rows[row])), f"{task.name}", "lacks a probability", "write all of them")
    found = np.asarray(flat.cast(pa.float64()).to_numpy(), np.float64).reshape(-1, width)
    return given, np.concatenate([1 - found, found], axis=1) if single else found


def _check_chances(source: SourceTable, part: _Part, rows: Ints, chances: Floats) -> None:
    """BadInput for the first of `rows` [n] whose `chances` [n, C] are no probabilities."""
    inside = (chances >= -1e-9) & (chances <= 1 + 1e-6)
    if not inside.all():
        at = int((~inside.all(axis=1)).argmax())
        code = int((~inside[at]).argmax())
        value = f"probability of {part.task.classes[code]} = {chances[at, code]:g}"
        raise BadEntry(source.where(int(part.rows[rows[at]])), value, "must be in [0, 1]", "correct it")
    if part.task.kind == "multilabel":
        return
    off: Bools = np.abs(chances.sum(axis=1) - 1) > SLACK
    if off.any():
        at = int(off.argmax())
        value = f"probabilities of {part.task.name} add up to {chances[at].sum():.6g}"
        raise BadEntry(source.where(int(part.rows[rows[at]])), value, "and not to 1", "normalise them")


def _given(source: SourceTable, part: _Part, columns: Sequence[pa.ChunkedArray]) -> Bools:
    """Which rows predict something: in all `columns`, or in none; a long table states something in each row."""
    valid = np.stack([np.asarray(pc.is_valid(column).to_numpy(), np.bool_) for column in columns])
    some, every = np.asarray(valid.any(axis=0)), np.asarray(valid.all(axis=0))
    _refuse(source, part, some & ~every, lambda row: part.task.name, "has some of its probabilities only",
            "write all of them, or none")  # fmt: skip
    if not part.sparse:
        _refuse(source, part, ~every, lambda row: part.task.name, "has no prediction", "write one, or leave it out")
    return every


def _needed(source: SourceTable, part: _Part, columns: Mapping[str, pa.ChunkedArray], name: str) -> pa.ChunkedArray:
    if name not in columns:
        raise BadInput(f"{source.name}: predicts nothing for {part.task.name}; add the column {name!r}")
    return columns[name]


def _floats(source: SourceTable, part: _Part, column: pa.ChunkedArray, name: str) -> Floats:
    """The cells as numbers, NaN where there is none; BadInput for text that is no number."""
    found = _as_floats(column)
    if found is None:
        found = numbers(column, name, _where(source, part), Findings())
    return np.asarray(found.to_numpy(), np.float64)


def _as_floats(column: pa.ChunkedArray) -> pa.ChunkedArray | None:
    """The cells as float64, by Arrow's own conversion, or None where it refuses."""
    try:
        return column.cast(pa.float64())
    except (pa.ArrowException, ValueError, TypeError):
        return None


def _where(source: SourceTable, part: _Part) -> Callable[[int], str]:
    return lambda row: source.where(int(part.rows[row]) if len(part.rows) else 0)


def _refuse(source: SourceTable, part: _Part, wrong: Bools, value: Callable[[int], str], rule: str, fix: str) -> None:
    """BadInput for the first cell that is `wrong` [n]."""
    if wrong.any():
        row = int(wrong.argmax())
        raise BadEntry(source.where(int(part.rows[row])), value(row), rule, fix)


def _refuse_twice(source: SourceTable, task: Task, rows: Ints, samples: Ints, keys: pa.Array) -> None:
    """BadInput where two of `rows` predict the task for the same sample."""
    if len(samples) < 2 or int(np.bincount(samples).max()) < 2:
        return
    _, first = np.unique(samples, return_index=True)
    repeated = int(np.setdiff1d(np.arange(len(samples)), first)[0])
    before = int(np.flatnonzero(samples == samples[repeated])[0])
    key = keys[int(samples[repeated])].as_py()
    raise BadEntry(
        source.where(int(rows[repeated])), f"sample {key!r}",
        f"is predicted for {task.name} twice (first in {source.word} {source.numbers[int(rows[before])]})", "keep one",
    )  # fmt: skip
