"""Redefined tasks: labels and slices follow their class, and older commits read as before."""

from pathlib import Path

import pytest
from support.homes import copy_home, label, labels, make_home

from amber.cli import run
from curation import BadInput, Catalog, Task
from curation.catalog.task_definitions import Definition


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    return make_home(tmp_path_factory.mktemp("definitions"), samples=40)


@pytest.fixture(params=["delta", "folded"])
def catalog(original: Catalog, tmp_path: Path, request: pytest.FixtureRequest) -> Catalog:
    copy = copy_home(original, tmp_path)
    if request.param == "folded":
        copy.compact()
    return copy


def colors(*classes: str) -> Task:
    return Task(name="color", kind="categorical", classes=classes, metric="balanced_accuracy", owner="ada")


def redefine(catalog: Catalog, *classes: str, **moved: str | None) -> int:
    with catalog.commit(author="ada", message="redefine") as change:
        change.redefine_task(colors(*classes), moved)
        return change.id


def counts(catalog: Catalog, commit: int | None = None) -> dict[str, int]:
    """Known labels of color by the name of their class."""
    with catalog.read(commit) as now:
        codes = [row["code"] for row in now.labels("color").to_pylist() if row["state"] == 1]
        return {now.task("color").classes[code]: codes.count(code) for code in sorted(set(codes))}


def test_a_class_that_is_added_changes_no_label(catalog: Catalog) -> None:
    before = counts(catalog)
    redefine(catalog, "red", "yellow", "green", "white")
    assert counts(catalog) == before
    with catalog.commit(author="ada", message="white") as change:
        change.add_labels(labels([label("pictures/00001", "color", "white", "ada")]), source="human")
    assert counts(catalog)["white"] == 1


def test_labels_and_slices_follow_a_renamed_class(catalog: Catalog) -> None:
    before = counts(catalog)
    with catalog.read() as now:
        members = now.members(now.slices()["yellow"].predicate).tolist()
    commit = redefine(catalog, "green", "amber", "red", yellow="amber")
    assert counts(catalog) == {"amber": before.pop("yellow"), **before}
    with catalog.read() as now, catalog.read(commit - 1) as then:
        assert "amber" in now.slices()["yellow"].predicate
        assert now.members(now.slices()["yellow"].predicate).tolist() == members
        assert then.members(then.slices()["yellow"].predicate).tolist() == members


def test_merged_classes_are_one(catalog: Catalog) -> None:
    before = counts(catalog)
    redefine(catalog, "warm", "green", red="warm", yellow="warm")
    assert counts(catalog) == {"warm": before["red"] + before["yellow"], "green": before["green"]}


def test_labels_of_a_split_class_become_unknown(catalog: Catalog) -> None:
    before = counts(catalog)
    first = redefine(catalog, "dark_red", "light_red", "yellow", "green", red=None)
    assert counts(catalog) == {name: n for name, n in before.items() if name != "red"}
    with catalog.commit(author="ada", message="split") as change:
        change.add_labels(labels([label("pictures/00001", "color", "dark_red", "ada")]), source="human")
    catalog.compact()
    assert counts(catalog)["dark_red"] == 1
    assert counts(catalog, first - 1) == before


def test_a_name_that_comes_back_does_not_bring_its_labels(catalog: Catalog) -> None:
    redefine(catalog, "other", "yellow", "green", red=None)
    redefine(catalog, "red", "yellow", "green", other=None)
    assert "red" not in counts(catalog)


@pytest.mark.parametrize(
    ("classes", "moved", "message"),
    [
        (("red", "green"), {}, "'yellow' would become 'yellow', which is not one of its classes"),
        (("red", "green"), {"yellow": "blue"}, "'yellow' would become 'blue'"),
        (("red", "yellow", "green"), {"blue": "red"}, "has no class 'blue' to move"),
        (("red", "green"), {"yellow": None}, "color has no class 'yellow' any more"),
    ],
)
def test_what_no_label_could_follow_is_refused(
    original: Catalog, classes: tuple[str, ...], moved: dict[str, str | None], message: str
) -> None:
    with original.read() as now:
        before = now.commit
    with pytest.raises(BadInput, match=message):
        redefine(original, *classes, **moved)
    with original.read() as now:
        assert (now.commit, now.task("color").classes) == (before, ("red", "yellow", "green"))


def test_kind_and_unit_stay(original: Catalog) -> None:
    task = Task(name="color", kind="multilabel", classes=("red", "yellow", "green"), owner="ada")
    with (
        pytest.raises(BadInput, match="name, kind and unit cannot change"),
        original.commit(author="a", message="m") as change,
    ):
        change.redefine_task(task)


def test_a_task_is_not_defined_twice_in_one_commit(catalog: Catalog) -> None:
    with catalog.commit(author="a", message="m") as change:
        change.redefine_task(colors("red", "yellow", "green", "white"))
        with pytest.raises(BadInput, match="was defined in this commit"):
            change.redefine_task(colors("red", "yellow", "green", "blue"), {"white": "blue"})


def test_every_class_has_an_entry_in_the_book() -> None:
    first = Definition.first(colors("a", "b", "c"), 0)
    assert first.entries == [0, 1, 2]
    merged = first.redefined(colors("c", "ab"), {"a": "ab", "b": "ab"})
    assert (merged.book, merged.codes, merged.entries) == (("a", "b", "c"), (1, 1, 0), [2, 1])
    split = merged.redefined(colors("x", "y", "c"), {"ab": None})
    assert (split.book, split.codes, split.entries) == (("a", "b", "c", "x", "y"), (None, None, 2, 0, 1), [3, 4, 2])
    assert first.restored(split).codes == (0, 1, 2, None, None)


def test_the_command_line_redefines(catalog: Catalog, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--author", "ada", "--home", str(catalog.home)]
    before = counts(catalog)
    assert run(["tasks", "redefine", "color", "red", "amber", "green", "--became", "yellow=amber", *options]) == 0
    assert capsys.readouterr().out == "task color: red, amber, green\n"
    assert counts(catalog)["amber"] == before["yellow"]
    assert run(["tasks", "redefine", "speed", "--tolerance", "2", *options]) == 0
    for wrong, message in [
        (["tasks", "redefine", "color", "red", "--became", "amber", *options], "must be OLD=NEW"),
        (["tasks", "redefine", "colour", "red", *options], "did you mean 'color'"),
        (["tasks", "redefine", "color", "red", "red", *options], "classes must differ"),
    ]:
        capsys.readouterr()
        assert run(wrong) == 2
        assert message in capsys.readouterr().err
