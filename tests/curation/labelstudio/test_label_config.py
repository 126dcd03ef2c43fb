"""Label configs and answers: the page of a task and the label that comes back, for every kind of task."""

import doctest
import json
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import fromstring

import pytest
from hypothesis import given
from hypothesis import strategies as some

from curation.catalog.tasks import Task
from curation.errors import BadInput
from curation.labelstudio import annotations, label_config
from curation.labelstudio.annotations import decode_answer, encode_answer
from curation.labelstudio.label_config import (
    BOXED,
    EMPTY,
    NONE,
    UNSURE,
    LabelConfig,
    card_sections,
    same_config,
    state_of,
)
from curation.labelstudio.validation import PageValidator

ROOT = Path(__file__).parents[3]
SIZE = (48, 32)

COLOR = Task(
    name="color", kind="categorical", classes=("red", "<b> & 'q'", "gr\u00fcn"), owner="a", description="Which?"
)
CAR = Task(name="car", kind="binary", owner="b")
MARKS = Task(name="marks", kind="multilabel", classes=("a", "b", "c"), owner="c")
SPEED = Task(name="speed", kind="regression", unit="km/h", metric="mae", owner="d")
THINGS = Task(name="things", kind="detection", classes=("light", "sign"), owner="e")
TASKS = {task.name: task for task in (COLOR, CAR, MARKS, SPEED, THINGS)}

side = some.floats(0.5, 20)
VALUES = {
    "color": some.sampled_from(COLOR.classes),
    "car": some.sampled_from(CAR.classes),
    "marks": some.lists(some.sampled_from(MARKS.classes), unique=True),
    "speed": some.floats(-1e6, 1e6),
    "things": some.lists(
        some.fixed_dictionaries({"class": some.sampled_from(THINGS.classes), **dict.fromkeys("xywh", side)}).filter(
            lambda box: box["x"] + box["w"] <= 48 and box["y"] + box["h"] <= 32
        ),
        max_size=3,
    ),
}  # fmt: skip


def choice(name: str, *words: str) -> dict[str, Any]:
    return {"from_name": name, "to_name": "image", "type": "choices", "value": {"choices": list(words)}}


def read(task: Task, *results: Any) -> Any:
    return decode_answer(task, results, SIZE, "item 1")


@pytest.mark.parametrize("module", [annotations, label_config])
def test_examples_of_the_docstrings_run(module: Any) -> None:
    done = doctest.testmod(module)
    assert (done.failed, done.attempted > 0) == (0, True)


@pytest.mark.parametrize("name", TASKS)
@given(data=some.data())
def test_decoding_reverts_encoding(name: str, data: some.DataObject) -> None:
    value = data.draw(VALUES[name])
    found = read(TASKS[name], *json.loads(json.dumps(encode_answer(TASKS[name], value, SIZE))))
    assert found["state"] == "known"
    if name == "things":
        for box, given_ in zip(found["boxes"], value, strict=True):
            assert box["class"] == given_["class"]
            assert [box[part] for part in "xywh"] == pytest.approx([given_[part] for part in "xywh"], abs=1e-6)
    else:
        assert found[{"marks": "names", "speed": "number"}.get(name, "text")] == value


@pytest.mark.parametrize("name", TASKS)
def test_no_answer_is_unknown_and_never_a_negative(name: str) -> None:
    assert read(TASKS[name]) is None
    assert read(TASKS[name], choice("another", "x")) is None


@pytest.mark.parametrize("name", TASKS)
def test_cannot_tell_means_unsure(name: str) -> None:
    tag = state_of(TASKS[name]) if name in ("speed", "things") else name
    assert read(TASKS[name], choice(tag, UNSURE)) == {"state": "unsure"}


BOX = {"from_name": "things", "type": "rectanglelabels", "value": {"x": 1, "y": 1, "width": 9, "height": 9}}
NUMBER = {"from_name": "speed", "type": "number", "value": {"number": 3}}
UNFIT = {
    "a class that is gone": ("color", [choice("color", "blue")], "'blue' is no class of color"),
    "two classes": ("color", [choice("color", "red", "gr\u00fcn")], "cannot both hold"),
    "a class and unsure": ("car", [choice("car", "yes"), choice("car", UNSURE)], "cannot both hold"),
    "none and one": ("marks", [choice("marks", NONE, "a")], "cannot both hold"),
    "a number and unsure": ("speed", [NUMBER, choice("speed-state", UNSURE)], "cannot both hold"),
    "no number": ("speed", [{**NUMBER, "value": {"number": "fast"}}], "no answer for speed"),
    "not a number": ("speed", [{**NUMBER, "value": {"number": float("nan")}}], "no answer for speed"),
    "a flag": ("speed", [{**NUMBER, "value": {"number": True}}], "no answer for speed"),
    "boxes and none": ("things", [BOX, choice("things-state", EMPTY)], "cannot both hold"),
    "no boxes though boxed": ("things", [choice("things-state", BOXED)], "cannot both hold"),
    "a box of no class": ("things", [BOX, choice("things-state", BOXED)], "no answer for things"),
    "no value": ("color", [{"from_name": "color"}], "results without a value"),
    "no result": ("color", ["red"], "results without a value"),
    "choices that are a word": ("color", [{**choice("color"), "value": {"choices": "red"}}], "no answer for color"),
    "another type": ("car", [{**choice("car", "yes"), "type": "taxonomy"}], "no answer for car"),
}


@pytest.mark.parametrize("case", UNFIT)
def test_unfit_answers_are_refused_with_the_reason(case: str) -> None:
    name, results, why = UNFIT[case]
    with pytest.raises(BadInput, match=f"^item 1: .*{why}"):
        read(TASKS[name], *results)


def test_a_turned_box_becomes_the_upright_one_around_it() -> None:
    value = {"x": 50, "y": 0, "width": 50, "height": 25, "rotation": 90, "rectanglelabels": ["light"]}
    (box,) = read(THINGS, {**BOX, "value": value})["boxes"]
    assert [box[part] for part in "xywh"] == pytest.approx([16, 0, 8, 24])


def test_an_unfit_value_cannot_be_encoded() -> None:
    for task, value in (
        (COLOR, "blue"),
        (SPEED, float("inf")),
        (THINGS, [{"class": "x", "x": 1, "y": 1, "w": 1, "h": 1}]),
    ):
        with pytest.raises(BadInput):
            encode_answer(task, value, SIZE)


@pytest.mark.parametrize("word", [UNSURE, NONE])
def test_a_class_with_the_name_of_a_choice_is_refused(word: str) -> None:
    with pytest.raises(BadInput, match="the page uses"):
        LabelConfig(tasks=(Task(name="t", kind="multilabel", classes=("a", word), owner="a"),))


def test_a_page_asks_for_each_task_once_and_explains_it() -> None:
    page = LabelConfig(tasks=tuple(TASKS.values()), notes={"car": "Vans are cars."})
    tree = fromstring(page.xml)
    named = [part.get("name") for part in tree.iter() if part.get("toName")]
    assert sorted(named) == ["car", "color", "marks", "speed", "speed-state", "things", "things-state"]
    assert {part.get("toName") for part in tree.iter() if part.get("toName")} == {"image"}
    shown = [part.get("value") for part in tree.iter("Choice")]
    assert {"<b> & 'q'", "gr\u00fcn", UNSURE, NONE, "yes", "no"} <= set(shown)
    assert "Vans are cars." in page.instructions
    assert "color: Which?" in page.instructions
    assert "\n\nmarks\n\n" in page.instructions


def test_the_hash_depends_on_config_and_instructions() -> None:
    one, other = LabelConfig(tasks=(COLOR,)), LabelConfig(tasks=(COLOR,), notes={"color": "Look twice."})
    more = LabelConfig(tasks=(COLOR.model_copy(update={"classes": (*COLOR.classes, "blue")}),))
    assert len({one.hash, other.hash, more.hash}) == 3
    assert one.hash == LabelConfig(tasks=(COLOR,)).hash


def test_equal_configs_may_be_written_differently() -> None:
    config = LabelConfig(tasks=(COLOR, CAR)).xml
    assert same_config(
        config, config.replace("><", ">\n  <").replace('<Choice value="red" />', '<Choice value="red"></Choice>')
    )
    assert not same_config(config, config.replace("yes", "yep"))
    assert not same_config(config, "<View>")


def test_the_sections_of_a_card() -> None:
    card = (ROOT / "datasets" / "traffic_lights" / "README.md").read_text()
    assert card_sections(card)["light_color"].startswith("Say which lamp is lit.")
    assert card_sections("# `color`\nLook at the lamp.\n\n## car\nVans too.\n") == {
        "color": "Look at the lamp.",
        "car": "Vans too.",
    }


def test_label_studio_accepts_encoded_values() -> None:
    box = {"class": "light", "x": 1, "y": 2, "w": 3, "h": 4}
    values = {"color": "red", "car": "true", "marks": [], "speed": 3.5, "things": [box]}
    results = [part for name, value in values.items() for part in encode_answer(TASKS[name], value, SIZE)]
    assert PageValidator(LabelConfig(tasks=tuple(TASKS.values()))).errors(results) == []


UNFIT_RESULTS = {
    "an unknown class": choice("color", "blue"),
    "a tag that the page lacks": choice("light", "red"),
    "a value of another type": {**choice("color", "red"), "type": "number"},
    "a box of an unknown class": {**BOX, "to_name": "image", "value": {**BOX["value"], "rectanglelabels": ["x"]}},
}


@pytest.mark.parametrize("case", UNFIT_RESULTS)
def test_unfit_pre_annotations_are_found(case: str) -> None:
    assert PageValidator(LabelConfig(tasks=tuple(TASKS.values()))).errors([UNFIT_RESULTS[case]]) != []


@pytest.mark.parametrize(
    "tasks",
    [
        [Task(name="image", kind="binary", owner="a")],  # the name of the image tag
        [Task(name="things", kind="detection", classes=("a",), owner="a")] * 2,
    ],
)
def test_a_page_that_label_studio_refuses_is_not_sent(tasks: list[Task]) -> None:
    with pytest.raises(BadInput, match="no valid labelling config"):
        PageValidator(LabelConfig(tasks=tuple(tasks)))


def test_a_task_without_description_and_notes_is_named() -> None:
    assert LabelConfig(tasks=(COLOR, CAR, MARKS), notes={"marks": "Paint."}).undescribed == ("car",)


# Attributes of boxes

SIGNS = Task(
    name="signs", kind="detection", classes=("sign",), owner="f", attributes={"kind": ["stop", "yield"], "height": "m"}
)
SIGN = {"class": "sign", "x": 1.0, "y": 2.0, "w": 5.0, "h": 6.0}


def test_the_page_asks_about_each_box_and_is_valid() -> None:
    page = LabelConfig(tasks=(SIGNS, CAR))
    tags = {tag.get("name"): tag for tag in fromstring(page.xml).iter() if tag.get("perRegion")}
    assert {name: tag.tag for name, tag in tags.items()} == {"signs-kind": "Choices", "signs-height": "Number"}
    assert all(tag.get("whenTagName") == "signs" for tag in tags.values())
    assert [choice.get("value") for choice in tags["signs-kind"]] == ["stop", "yield"]
    results = encode_answer(SIGNS, [{**SIGN, "attributes": [("kind", "stop"), ("height", "2")]}], SIZE)
    assert PageValidator(page).errors(results) == []


def test_answers_about_boxes_come_back_with_their_boxes() -> None:
    given_ = [{**SIGN, "attributes": [("kind", "stop"), ("height", "2.5")]}, {**SIGN, "x": 20.0, "attributes": None}]
    found = read(SIGNS, *json.loads(json.dumps(encode_answer(SIGNS, given_, SIZE))))
    assert [dict(box["attributes"] or ()) for box in found["boxes"]] == [{"kind": "stop", "height": "2.5"}, {}]


@pytest.mark.parametrize(
    ("part", "rule"),
    [
        ({**choice("signs-kind", "stop"), "id": "elsewhere"}, "kind = 'stop' is said of 'elsewhere', which is no box"),
        ({**choice("signs-kind", "stop", "yield"), "id": "signs-0"}, "is no answer for signs"),
        ({**choice("signs-kind", "go"), "id": "signs-0"}, "is no answer for signs"),
        ({"from_name": "signs-height", "id": "signs-0", "value": {"number": "tall"}}, "is no answer for signs"),
    ],
)
def test_an_answer_about_no_box_or_with_no_class_is_one_line(part: dict[str, Any], rule: str) -> None:
    with pytest.raises(BadInput, match=rule) as error:
        read(SIGNS, *encode_answer(SIGNS, [SIGN], SIZE), part)
    assert str(error.value).startswith("item 1: ")
