"""A policy as text: the lines of its problems, and that it is saved only over the one that was read."""

from pathlib import Path

import pytest
from support.homes import copy_home, make_home

from curation.catalog.catalog import Catalog
from curation.catalog.ownership import Identity
from curation.errors import AmberError, BadInput
from samplers.plan.policy_text import policy_text, put_in_force, read_policy
from samplers.policy.policy import Policy

ANN = Identity(name="ann", via="token")
TEXT = """\
tolerance = 0.02

[task.color]
owner = "ada"
share = 0.75
importance = 0.5
boost = { yellow = 2.0 }

[task.car]
owner = "bob"
share = 0.25  # a quarter
importance = 0.5
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    return make_home(tmp_path_factory.mktemp("policies"), samples=60)


def test_a_policy_reads_back_as_it_was_written(made: Catalog) -> None:
    with made.read() as now:
        policy = read_policy(TEXT, now).policy
        assert policy
        assert read_policy(policy_text(policy), now).policy == policy
    assert (policy.task["color"].boost, policy.tolerance) == ({"yellow": 2.0}, 0.02)


@pytest.mark.parametrize(
    ("old", "new", "why", "lines"),
    [
        ("share = 0.75", "share = 0.7", "shares sum to 0.95, must sum to 1", (5, 11)),
        ("[task.car]", "[task.carr]", "no such task (did you mean 'car'?)", (9,)),
        ("share = 0.75", 'share = "much"', "task.color.share", (5,)),
        ("share = 0.25 ", "share = = 0.25 ", "not valid TOML", (11,)),
        ("yellow = 2.0", "yelow = 2.0", "which is not declared (did you mean 'yellow'?)", (7,)),
        ("[task.car]", "phases = [0.5, 0.4]\n[task.car]", "phases", (9,)),
        ("tolerance", "tolerances", "tolerances", (1,)),
        ("owner = \"bob\"\n", "", "task.car.owner is missing", (9,)),
        ("importance = 0.5\nboost", "importance = 2\nboost", "task.color.importance", (6,)),
        (TEXT, "", "task is missing", ()),
        (TEXT, "a" * 200_001, "200,001 characters, at most 200,000", ()),
        (TEXT, "[task.color", "not valid TOML", (1,)),
        (TEXT, "x = " + "[" * 5_000, "is nested too deep", ()),
    ],
)  # fmt: skip
def test_a_problem_has_its_lines(made: Catalog, old: str, new: str, why: str, lines: tuple[int, ...]) -> None:
    assert old in TEXT
    with made.read() as now:
        found = read_policy(TEXT.replace(old, new, 1), now)
    assert found.policy is None
    assert [part.lines for part in found.problems if why in part.text] == [lines], found.problems


def test_a_policy_is_saved_only_over_the_one_that_was_read(made: Catalog, tmp_path: Path) -> None:
    catalog = copy_home(made, tmp_path)
    with catalog.read() as now:
        first = read_policy(TEXT, now).policy
        second = read_policy(TEXT.replace("0.02", "0.03"), now).policy
    assert first
    assert second
    save(catalog, first, "")
    for read in ("", second.sha256):
        with pytest.raises(BadInput, match=rf"{first.sha256[:12]} is in force by now"):
            save(catalog, second, read)
    assert in_force(catalog) == first
    save(catalog, second, first.sha256)
    save(catalog, first, None)
    assert in_force(catalog) == first
    with pytest.raises(AmberError, match="no such task"):
        save(catalog, first.model_copy(update={"task": {"nosuch": first.task["car"]}}), None)
    with catalog.read() as now:
        assert [(row["act"], row["member"]) for row in now.ownership.acts().to_pylist()] == [("policy", "ann")] * 3


def save(catalog: Catalog, policy: Policy, read: str | None) -> None:
    with catalog.commit(author="ann", message="policy") as change:
        put_in_force(change, policy, by=ANN, read=read)


def in_force(catalog: Catalog) -> Policy:
    with catalog.read() as now:
        return Policy.in_force(now)
