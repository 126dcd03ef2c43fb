"""Who is asked: limits hold, work is spread evenly, and the items of a person who left go to others."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from curation.catalog.people import Assignment
from curation.labelstudio.assigning import Assigner
from curation.labelstudio.item_cache import Item

NAMES = {1: "ann", 2: "bob", 3: "cem"}


def assigned(**most: int | None) -> list[Assignment]:
    """Who gets items of the task color, with limits."""
    return [Assignment(task="color", person=person, most=limit) for person, limit in most.items()]


def item(number: int, *people: str, answered: tuple[int, ...] = (), overlap: int = 1, task: str = "color") -> Item:
    annotations = [{"id": who, "completed_by": who} for who in answered]
    return Item(
        project=1, item=number, key=str(number), sample=str(number), requests={task: number}, overlap=overlap,
        assigned=people, annotations=annotations,
    )  # fmt: skip


LIMITS = st.dictionaries(st.sampled_from(["ann", "bob", "cem"]), st.none() | st.integers(1, 5), min_size=1)


@given(limits=LIMITS, present=st.integers(0, 6), new=st.integers(0, 12))
def test_nobody_gets_more_than_the_limit_and_nothing_waits_while_there_is_room(
    limits: dict[str, int | None], present: int, new: int
) -> None:
    first = min(limits)
    assigner = Assigner(assigned(**limits), [item(number, first) for number in range(present)], NAMES)
    chosen = [assigner.choose(["color"], 1) for _ in range(new)]
    count = Counter({first: present})
    count.update(person for people in chosen if people for person in people)
    before = Counter({first: present})
    room = sum(new if most is None else max(0, most - before[who]) for who, most in limits.items())
    assert all(most is None or count[who] <= max(most, present) for who, most in limits.items())
    assert sum(people is not None for people in chosen) == min(new, room)


def test_work_is_spread_evenly() -> None:
    assigner = Assigner(assigned(ann=None, bob=None, cem=None), [item(0, "ann"), item(1, "ann")], NAMES)
    assert [assigner.choose(["color"], 1) for _ in range(5)] == [("bob",), ("cem",), ("bob",), ("cem",), ("ann",)]


def test_a_task_that_nobody_was_given_is_everybodys() -> None:
    assigner = Assigner(assigned(ann=1), [], NAMES)
    assert (assigner.choose(["car"], 1), assigner.people("car")) == ((), frozenset())
    assert assigner.again(item(1, "ann", task="car")) == ()


def test_answered_items_do_not_count_as_open() -> None:
    items = [item(0, "ann", answered=(1,)), item(1, "ann", answered=(1,), overlap=2), item(2, "ann", answered=(2,))]
    assert Assigner(assigned(ann=1), items, NAMES).choose(["color"], 1) == ("ann",)


def test_items_of_a_person_who_left_go_to_the_others() -> None:
    items = [item(number, "ann") for number in range(4)]
    assigner = Assigner(assigned(bob=None, cem=1), items, NAMES)
    assert Counter(assigner.again(part) for part in items) == {("bob",): 3, ("cem",): 1}


def test_an_item_that_needs_another_person_gets_one_who_has_not_answered() -> None:
    disputed = item(0, "ann", "bob", answered=(1, 2), overlap=3)
    assert Assigner(assigned(ann=None, bob=None, cem=None), [disputed], NAMES).again(disputed) == ("ann", "bob", "cem")
    assert Assigner(assigned(ann=None, bob=None), [disputed], NAMES).again(disputed) == ("ann", "bob")
    fresh = item(1, "ann", overlap=2)
    assert Assigner(assigned(ann=None, bob=None), [fresh], NAMES).again(fresh) == ("ann", "bob")
    assert Assigner(assigned(ann=None, bob=None), [fresh], NAMES).again(item(2, "ann")) == ("ann",)
