"""Trees and recipes: what a tree resolves to, the words of a file, and one line for each mistake."""

import doctest
import json
from pathlib import Path

import pytest

from curation import BadInput
from training import Recipe, recipe, tree
from training.recipe import Stopping, TaskRecipe
from training.tree import Branch, Tree

TASKS = ["car", "bike", "color"]


@pytest.mark.parametrize("module", [tree, recipe])
def test_examples(module: object) -> None:
    assert doctest.testmod(module).failed == 0  # type: ignore[arg-type]


def test_branches_may_hold_branches_and_leave_the_trunk_at_a_stage() -> None:
    found = Tree(
        branch={
            "lamps": Branch(parent="vehicles", width=4, tasks=("color",)),
            "vehicles": Branch(parent="trunk:stage2", width=8, tasks=("*",)),
        }
    )
    assert [node.name for node in found.nodes(TASKS)] == ["trunk", "vehicles", "lamps"]
    assert found.path("color", TASKS) == ("trunk:stage2", "vehicles", "lamps")
    assert found.path("bike", TASKS) == ("trunk:stage2", "vehicles")


def test_a_branch_without_a_task_is_left_out() -> None:
    found = Tree(tasks=("*",), branch={"empty": Branch(), "unused": Branch(parent="empty")})
    assert [node.name for node in found.nodes(TASKS)] == ["trunk"]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ({"tasks": ["*", "boat"]}, "trunk names the task 'boat', which the plan does not train"),
        ({"tasks": ["car", "bike"]}, "task color has no place"),
        ({"tasks": ["*"], "branch": {"one": {"tasks": ["*"]}}}, r'the rest \("\*"\) is at trunk and at one'),
        ({"tasks": ["*", "car"], "branch": {"one": {"tasks": ["car"]}}}, "task car is at trunk and at one"),
        ({"branch": {"a": {"parent": "b"}, "b": {"parent": "a"}}}, "a -> b -> a is a cycle"),
        ({"branch": {"a": {"parent": "a"}}}, "a -> a is a cycle"),
        ({"branch": {"a": {"parent": "nosuch"}}}, "has the parent 'nosuch', which is no branch"),
        ({"branch": {"trunk": {}}}, "branch 'trunk' is no name"),
        ({"branch": {"a": {"width": -1}}}, "branch a has width -1"),
        ({"branch": {"a": {"each": True}, "b": {"parent": "a"}}}, "which each task has its own of"),
        ({"branch": {"a": {"wide": 3}}}, r"tree.branch.a.wide = 3"),
    ],
)
def test_a_wrong_tree_is_one_line(words: dict[str, object], says: str) -> None:
    with pytest.raises(BadInput, match=says) as caught:
        Recipe.parse({"trunk": "small", "tree": words}).branching.nodes(TASKS)
    assert "\n" not in str(caught.value)


def test_a_recipe_file_says_what_the_dataclass_says(tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text(
        """
        trunk = "small"
        seed = 3
        balance = "gradient_norm"
        [stopping]
        every = 20
        [task.car]
        rate = 0.5
        dropout = 0.2
        [tree]
        tasks = ["*"]
        [tree.branch.vehicles]
        parent = "trunk:stage2"
        tasks = ["car", "bike"]
        """
    )
    branch = Branch(parent="trunk:stage2", tasks=("car", "bike"))
    made = Recipe.of(
        "small", seed=3, balance="gradient_norm", stopping=Stopping(every=20), size=(96, 64),
        task={"car": TaskRecipe(rate=0.5, dropout=0.2)}, tree=Tree(tasks=("*",), branch={"vehicles": branch}),
    )  # fmt: skip
    assert Recipe.load(path, size=(96, 64), seed=9) == made
    assert Recipe.parse(json.loads(json.dumps(made.words))) == made


def test_a_recipe_without_new_words_keeps_the_words_that_it_had() -> None:
    assert set(Recipe.of("small").words) == set(Recipe.of("efficientnet_lite0").words)
    assert "tree" not in Recipe.of("small").words
    assert Recipe.of("small").plain
    assert not Recipe.of("small", clip=1.0).plain


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ({"trunk": "small", "tree": "star"}, 'neither "shared" nor "separate"'),
        ({"trunk": "small", "task": {"car": {"rate": -1}}}, "rate = -1"),
        ({"trunk": "small", "task": {"car": {"dropout": 1}}}, "dropout = 1"),
        ({"trunk": "small", "task": {"car": {"smoothing": 1}}}, "smoothing = 1"),
        ({"trunk": "small", "stopping": {"every": 0}}, "every = 0"),
        ({"trunk": "small", "balance": "magic"}, "balance = 'magic'"),
        ({"trunk": "small", "accumulate": 7}, "accumulate = 7"),
        ({"trunk": "small", "clip": -1}, "clip = -1"),
        ({"trunk": "small", "optimizer": "sgd", "clip": 1}, "clip is for heads = drawn with optimizer = adamw"),
        ({"heads": "exact", "tree": "shared"}, "tree is for heads = drawn"),
        ({"trunk": 3}, "trunk = 3 is no name"),
    ],
)
def test_a_wrong_recipe_is_one_line(words: dict[str, object], says: str) -> None:
    with pytest.raises(BadInput, match=says) as caught:
        Recipe.parse(words, where="recipe.toml")
    assert "\n" not in str(caught.value)
