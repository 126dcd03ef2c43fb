"""Files of predictions: the forms that are read, and one line with the row for everything that breaks a rule."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.parquet as pq
import pytest
from support.homes import TASKS

from curation.errors import BadInput, NotFound
from training.foreign.prediction_files import listed_keys, read_prediction_file
from training.foreign.statements import Statement, statements

KEYS = pa.array([f"d/{number}" for number in range(6)])
BY_NAME = {task.name: task for task in TASKS}
CHANCES = np.array([[0.7, 0.2, 0.1], [0.1, 0.1, 0.8], [0.25, 0.5, 0.25]])


def read(path: Path, only: str = "") -> dict[str, Statement]:
    return {part.task.name: part for part in statements(read_prediction_file(path), KEYS, BY_NAME, only=only)}


def parquet(folder: Path, columns: dict[str, Any]) -> Path:
    pq.write_table(pa.table(columns), folder / "p.parquet")
    return folder / "p.parquet"


def in_csv(folder: Path, text: str) -> Path:
    (folder / "p.csv").write_text(text)
    return folder / "p.csv"


WIDE = {
    "key": ["d/3", "d/0", "d/5"],
    "color.red": CHANCES[:, 0], "color.yellow": CHANCES[:, 1], "color.green": CHANCES[:, 2],
    "car": [0.25, None, 1.0], "bike": [True, False, None], "speed": [10.0, 20.5, None],
}  # fmt: skip


def as_csv(folder: Path) -> Path:
    csv.write_csv(pa.table(WIDE), folder / "p.csv")
    return folder / "p.csv"


def as_npz(folder: Path) -> Path:
    """The same; npz has no nulls, so tasks with empty cells are left out."""
    np.savez(folder / "p.npz", key=np.array(WIDE["key"]), color=CHANCES)
    return folder / "p.npz"


def as_long(folder: Path) -> Path:
    pairs = zip(WIDE["key"], CHANCES.tolist(), strict=True)
    rows = [{"key": key, "task": "color", "probabilities": chances} for key, chances in pairs]
    rows += [
        {"key": "d/3", "task": "car", "probabilities": [0.25]},
        {"key": "d/5", "task": "car", "probabilities": [1.0]},
    ]
    rows += [{"key": "d/3", "task": "bike", "class": "true"}, {"key": "d/0", "task": "bike", "class": "false"}]
    rows += [{"key": "d/3", "task": "speed", "number": 10.0}, {"key": "d/0", "task": "speed", "number": 20.5}]
    pq.write_table(pa.Table.from_pylist(rows, pa.schema([
        ("key", pa.string()), ("task", pa.string()), ("class", pa.string()), ("number", pa.float32()),
        ("probabilities", pa.list_(pa.float64())),
    ])), folder / "p.parquet")  # fmt: skip
    return folder / "p.parquet"


@pytest.mark.parametrize("write", [lambda folder: parquet(folder, WIDE), as_csv, as_long])
def test_wide_and_long_files_state_the_same(write: Callable[[Path], Path], tmp_path: Path) -> None:
    found = read(write(tmp_path))
    assert list(found) == ["color", "car", "bike", "speed"]
    assert found["color"].samples.tolist() == [3, 0, 5]
    np.testing.assert_allclose(found["color"].chances, CHANCES)
    assert found["car"].samples.tolist() == [3, 5]
    np.testing.assert_allclose(found["car"].chances, [[0.75, 0.25], [0, 1]])
    bike, speed = found["bike"], found["speed"]
    assert bike.samples.tolist() == [3, 0]
    assert (bike.codes is None) != (bike.chances is None)
    likeliest = bike.codes if bike.chances is None else bike.chances.argmax(axis=1)
    assert likeliest is not None
    assert likeliest.tolist() == [1, 0]
    assert speed.samples.tolist() == [3, 0]
    np.testing.assert_allclose(speed.numbers, [10.0, 20.5])


def test_npz_and_a_table_of_one_task(tmp_path: Path) -> None:
    np.testing.assert_allclose(read(as_npz(tmp_path))["color"].chances, CHANCES)
    one = {"key": WIDE["key"], **{name: CHANCES[:, code] for code, name in enumerate(("red", "yellow", "green"))}}
    np.testing.assert_allclose(read(parquet(tmp_path, one), "color")["color"].chances, CHANCES)
    named = read(in_csv(tmp_path, "key,class,confidence\nd/1,red,0.5\nd/2,green,\n"), "color")["color"]
    assert named.codes is not None
    assert named.codes.tolist() == [0, 2]
    np.testing.assert_array_equal(named.confidence, [0.5, np.nan])


def test_rounded_probabilities_are_normalised(tmp_path: Path) -> None:
    found = read(parquet(tmp_path, {"key": ["d/1"], "color": [[0.3331, 0.3333, 0.3331]]}))["color"]
    assert found.chances is not None
    assert found.chances.sum() == pytest.approx(1, abs=1e-15)


HEAD = "key,color.red,color.yellow,color.green\n"
BROKEN = {
    "NaN": (HEAD + "d/0,0.5,0.25,0.25\nd/1,nan,0.5,0.5\n", "p.csv line 3: probability of red = nan must be in [0, 1]"),
    "infinite": ("key,speed\nd/0,1\nd/1,inf\n", "p.csv line 3: speed = inf is no finite number"),
    "no number": ("key,speed\nd/0,1\nd/1,fast\n", "p.csv line 3: speed = 'fast' is no number"),
    "above 1": (HEAD + "d/0,1.5,-0.5,0\n", "p.csv line 2: probability of red = 1.5 must be in [0, 1]"),
    "sum": (HEAD + "d/0,0.5,0.25,0.2\n", "p.csv line 2: probabilities of color add up to 0.95 and not to 1"),
    "some only": (HEAD + "d/0,0.5,,0.5\n", "p.csv line 2: color has some of its probabilities only"),
    "unknown sample": ("key,car\nd/0,0.5\nd/77,0.5\n", "p.csv line 3: key 'd/77' is no sample of the catalog"),
    "no key": ("key,car\nd/0,0.5\n,0.5\n", "p.csv line 3: has no key"),
    "no column key": ("id,car\nd/0,0.5\n", "p.csv: has no column 'key'"),
    "unknown class": ("key,color\nd/0,red\nd/1,blue\n", "p.csv line 3: 'blue' is no class of color; they are red"),
    "unknown class column": (HEAD.replace("red", "blue") + "d/0,0,0,1\n", "column 'color.blue': 'blue' is no class"),
    "a class left out": ("key,color.red,color.green\nd/0,0.5,0.5\n", "color has no probability of 'yellow'"),
    "twice": ("key,car\nd/0,0.5\nd/1,0.5\nd/0,0.2\n", "p.csv line 4: sample 'd/0' is predicted for car twice (fir"),
    "strange column": ("key,car,truck\nd/0,0.5,1\n", "p.csv: column 'truck' is none that predictions have"),
    "no rows": ("key,car\n", "p.csv: has no row"),
    "empty": ("", "p.csv: is empty"),
    "nothing said": ("key,car\nd/0,\nd/1,\n", "p.csv: predicts nothing for car"),
    "long, unknown task": ("key,task,number\nd/0,speed,1\nd/0,spede,1\n", "line 3: task 'spede' is no task of the cat"),
    "long, no prediction": ("key,task,number\nd/0,speed,1\nd/1,speed,\n", "p.csv line 3: speed has no prediction"),
    "long, two ways": ("key,task,class,number\nd/0,speed,red,1\n", "speed is a regression, which has numbers and n"),
    "a class for numbers": ("key,task,number\nd/0,color,1\n", "task color has classes and no number"),
    "confidence": ("key,color,color.confidence\nd/0,red,0.5\nd/1,red,1.5\n", "line 3: confidence 1.5 must be in"),
    "both": ("key,color,color.red,color.yellow,color.green\nd/0,red,1,0,0\n", "is given by class and by columns of"),
    "boxes": ("key,things\nd/0,light\n", "task things (detection): its boxes need a file of their own"),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_what_breaks_a_rule_is_one_line_with_the_row(name: str, tmp_path: Path) -> None:
    text, message = BROKEN[name]
    with pytest.raises(BadInput) as error:
        read(in_csv(tmp_path, text))
    assert message in str(error.value)
    assert "\n" not in str(error.value)


LISTS = {
    "length": ([[0.5, 0.5, 0.0], [0.5, 0.5]], "p.parquet row 2: 2 probabilities are not one for each of the 3 classes"),
    "null inside": ([[0.5, 0.5, 0.0], [0.5, None, 0.5]], "p.parquet row 2: color lacks a probability"),
    "infinite": ([[0.5, 0.5, 0.0], [0.5, np.inf, 0.5]], "p.parquet row 2: probability of yellow = inf must be in"),
}


@pytest.mark.parametrize("name", LISTS)
def test_lists_that_break_a_rule(name: str, tmp_path: Path) -> None:
    lists, message = LISTS[name]
    with pytest.raises(BadInput) as error:
        read(parquet(tmp_path, {"key": ["d/0", "d/1"], "color": lists}))
    assert message in str(error.value)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    np.savez(tmp_path / "objects.npz", key=np.array([{"a": 1}], dtype=object))
    np.savez(tmp_path / "lengths.npz", key=np.array(["d/0", "d/1"]), car=np.array([0.5]))
    np.savez(tmp_path / "deep.npz", key=np.array(["d/0"]), car=np.zeros((1, 2, 2)))
    (tmp_path / "broken.npz").write_bytes(b"PK\x03\x04 no archive")
    (tmp_path / "broken.parquet").write_bytes(b"no Parquet")
    for file, message in {
        "objects.npz": "holds Python objects", "lengths.npz": "array 'car' is 1; each must have 2 rows",
        "deep.npz": "array 'car' is 1x2x2", "broken.npz": "cannot be read as npz", "broken.parquet": "cannot be read",
    }.items():  # fmt: skip
        with pytest.raises(BadInput, match=message):
            read_prediction_file(tmp_path / file)
    with pytest.raises(NotFound):
        read_prediction_file(tmp_path / "nowhere.npz")
    with pytest.raises(BadInput, match=r"must be \.csv"):
        read_prediction_file(in_csv(tmp_path, "key,car\n").rename(tmp_path / "p.xlsx"))


def test_a_training_list_is_text_or_a_table(tmp_path: Path) -> None:
    (tmp_path / "keys.txt").write_text("d/2\n\nd/1\nd/2\n")
    assert listed_keys(tmp_path / "keys.txt").to_pylist() == ["d/1", "d/2"]
    assert listed_keys(in_csv(tmp_path, "key,other\nd/4,1\n")).to_pylist() == ["d/4"]
    (tmp_path / "keys.txt").write_text("\n")
    with pytest.raises(BadInput, match="names no image"):
        listed_keys(tmp_path / "keys.txt")
