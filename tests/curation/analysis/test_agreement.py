"""Agreement: alpha against the `krippendorff` package, Dawid and Skene against plain loops, figures by annotator."""

from collections import Counter
from itertools import combinations
from pathlib import Path

import krippendorff
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from support.homes import copy_home, label, labels, make_home

from curation import Catalog, NotFound, Task
from curation.analysis.agreement import Agreement, agreement
from curation.analysis.alpha import disagreement
from curation.analysis.dawid_skene import fit

SAID = arrays.arrays(np.int64, st.tuples(st.integers(1, 12), st.integers(1, 5)), elements=st.integers(-1, 3))
"""Random labels [samples, annotators] of 4 classes; -1 is no label."""


def sparse(said: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Samples, number of labels of each, and codes, from a dense table."""
    sample, annotator = np.nonzero(said >= 0)
    return sample, (said >= 0).sum(axis=1), said[sample, annotator]


def library(said: np.ndarray, level: str) -> float | None:
    paired = said[(said >= 0).sum(axis=1) >= 2]
    if len(np.unique(paired[paired >= 0])) < 2:
        return None
    table = np.where(paired < 0, np.nan, paired).T
    return float(krippendorff.alpha(reliability_data=table, level_of_measurement=level))


@given(SAID)
def test_alpha_equals_the_packages(said: np.ndarray) -> None:
    sample, raters, code = sparse(said)
    nominal = disagreement(sample, raters, code, np.ones(len(code)), columns=4).alpha()
    interval = disagreement(sample, raters, np.zeros_like(code), code + 100.0, columns=1).alpha()
    assert nominal == pytest.approx(library(said, "nominal"))
    assert interval == pytest.approx(library(said, "interval"))


@given(SAID)
def test_a_class_that_is_not_listed_is_absent(said: np.ndarray) -> None:
    """Alpha of a class of a multilabel task is the alpha of its indicator, whose zeros are not listed."""
    sample, raters, code = sparse(said)
    each = disagreement(sample, raters, code, np.ones(len(code)), columns=4).by_column()
    assert each == pytest.approx([library(np.where(said < 0, -1, said == c), "nominal") for c in range(4)])


def test_alpha_of_the_published_example() -> None:
    """Krippendorff, Computing Krippendorff's alpha-reliability, 2011, example C."""
    rows = ["1233214 12   ", "1233224125 3 ", " 333234225 1 ", "1233244125 1 "]
    said = np.array([[-1 if mark == " " else int(mark) for mark in row[:11].ljust(11)] for row in rows]).T
    sample, raters, code = sparse(said)
    found = disagreement(sample, raters, code, np.ones(len(code)), columns=6).alpha()
    assert found == pytest.approx(library(said, "nominal"))


def one_round(chances: np.ndarray, said: np.ndarray, classes: int) -> np.ndarray:
    """One round of Dawid and Skene's EM as they wrote it, in loops, on a dense table."""
    samples, annotators = said.shape
    prior, out = chances.mean(axis=0), np.zeros_like(chances)
    counts = np.full((annotators, classes, classes), 1e-10)
    for i in range(samples):
        for k in range(annotators):
            counts[k, :, said[i, k]] += chances[i]
    counts /= counts.sum(axis=2, keepdims=True)
    for i in range(samples):
        out[i] = prior * np.prod([counts[k, :, said[i, k]] for k in range(annotators)], axis=0)
    return out / out.sum(axis=1, keepdims=True)


def drawn(samples: int, errors: list[float], *, classes: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Truth, and labels [samples, annotators] of annotators with these error rates."""
    generator = np.random.default_rng(5)
    truth = generator.choice(classes, samples, p=np.arange(1, classes + 1) / sum(range(1, classes + 1)))
    wrong = (truth[:, None] + generator.integers(1, classes, (samples, len(errors)))) % classes
    return truth, np.where(generator.random(wrong.shape) < errors, wrong, truth[:, None])


def test_dawid_skene_equals_the_loops() -> None:
    _, said = drawn(40, [0.1, 0.2, 0.4])
    sample, annotator = np.nonzero(said >= 0)
    fitted = fit(sample, annotator, said.ravel(), annotators=3, classes=3)
    chances = np.stack([(said == c).mean(axis=1) for c in range(3)], axis=1)
    for _ in range(400):
        chances = one_round(chances, said, 3)
    found = fitted.posterior(sample, annotator, said.ravel())
    assert found == pytest.approx(chances, abs=0.02)
    assert found.argmax(axis=1).tolist() == chances.argmax(axis=1).tolist()


@given(arrays.arrays(np.int64, st.tuples(st.integers(1, 30), st.integers(2, 3)), elements=st.integers(0, 2)))
def test_samples_with_the_same_labels_count_as_often_as_they_occur(said: np.ndarray) -> None:
    """After as many rounds the loops, which go through every sample, have the same chances."""
    sample, annotator = np.nonzero(said >= 0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("curation.analysis.dawid_skene.ROUNDS", 5)
        patch.setattr("curation.analysis.dawid_skene.CLOSE", 0.0)
        fitted = fit(sample, annotator, said.ravel(), annotators=said.shape[1], classes=3)
    chances = np.stack([(said == c).mean(axis=1) for c in range(3)], axis=1)
    for _ in range(5):
        chances = one_round(chances, said, 3)
    assert fitted.prior == pytest.approx(chances.mean(axis=0), abs=1e-6)
    assert fitted.posterior(sample, annotator, said.ravel()) == pytest.approx(one_round(chances, said, 3), abs=1e-6)
    assert fitted.fitted == len(said)


@pytest.mark.parametrize("cells", [1_000_000, 6_000])
def test_dawid_skene_finds_who_errs(cells: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("curation.analysis.dawid_skene.CELLS", cells)
    truth, said = drawn(4000, [0.05, 0.1, 0.4, 0.2])
    sample, annotator = np.nonzero(said >= 0)
    fitted = fit(sample, annotator, said.ravel(), annotators=4, classes=3)
    assert fitted.fitted == pytest.approx(min(4000, cells / 3), rel=0.4)
    assert fitted.accuracy() == pytest.approx([0.95, 0.9, 0.6, 0.8], abs=0.035)
    likely = fitted.posterior(sample, annotator, said.ravel()).argmax(axis=1)
    votes = [Counter(row).most_common(1)[0][0] for row in said.tolist()]
    assert (likely == truth).mean() > (np.array(votes) == truth).mean()


COLORS = ["red", "yellow", "green"]
WEATHER = Task(name="weather", kind="multilabel", classes=("wet", "snow", "dust"), owner="ada")


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    """Three people, a vendor and a model, of whom eve labels red as green and marks some as unsure."""
    catalog = make_home(tmp_path_factory.mktemp("agreement"), samples=160)
    _, said = drawn(120, [0.05, 0.05, 0.1])
    keys = [f"pictures/{number:05d}" for number in range(120)]
    with catalog.commit(author="ada", message="people") as change:
        change.add_tasks([WEATHER])
        rows = [label(key, "color", COLORS[code], name) for key, row in zip(keys, said.tolist(), strict=True)
                for name, code in zip(("ada", "bob", "eve"), row, strict=True)]  # fmt: skip
        for row in rows:
            if row["annotator"] == "eve" and row["text"] == "red":
                row["text"] = "green"
        rows += [label(f"pictures/{number:05d}", "color", None, "eve") for number in range(120, 125)]
        rows += [label(key, "speed", float(number), "ada") for number, key in enumerate(keys[:20])]
        rows += [label(key, "speed", number + 2.0, "bob") for number, key in enumerate(keys[:20])]
        change.add_labels(labels(rows), source="human")
        torn = [f"pictures/{number:05d}" for number in range(126, 130)]
        rows = [label(key, "color", color, name) for key in torn for name, color in (("ada", "red"), ("bob", "green"))]
        change.add_labels(labels(rows), source="human")
        change.add_labels(labels([label(key, "color", "green", "net") for key in keys[:50] + torn]), source="model")
        for name, second in (("ada", ["wet"]), ("bob", ["wet", "snow"])):
            told = [second if number % 2 else [] for number in range(20)]
            change.add_labels(
                labels([{**label(key, "weather", None, name), "state": "known", "names": names}
                        for key, names in zip(keys, told, strict=False)]), source="human",
            )  # fmt: skip
            boxes = [{"class": "light", "x": 1.0, "y": 1.0, "w": 5.0, "h": 8.0}] * (1 if name == "ada" else 2)
            change.add_labels(
                labels([label(key, "things", boxes if n % 2 else [], name) for n, key in enumerate(keys[:10])]),
                source="human",
            )
    return catalog


def of(catalog: Catalog, task: str) -> Agreement:
    with catalog.read() as now:
        return agreement(now, task)


def test_pairs_agree_with_a_plain_count(original: Catalog) -> None:
    found = {(pair.one, pair.other): (pair.both, pair.same) for pair in of(original, "color").pairs}
    with original.read() as now:
        rows = [row for row in now.labels.by_annotator("color").to_pylist() if row["state"] == 1]
    said: dict[int, dict[str, int]] = {}
    for row in rows:
        said.setdefault(row["sample_id"], {})[row["annotator"]] = row["code"]
    both, same = Counter(), Counter()
    for who in said.values():
        for one, other in combinations(sorted(who), 2):
            both[one, other] += 1
            same[one, other] += who[one] == who[other]
    assert {tuple(sorted(pair)): counts for pair, counts in found.items()} == {
        pair: (n, same[pair]) for pair, n in both.items()
    }


def test_circles_compare_people_with_each_other_and_with_other_sources(original: Catalog) -> None:
    circles = {circle.name: circle for circle in of(original, "color").circles}
    assert list(circles) == ["everyone", "people", "import against people", "model against people"]
    assert (circles["people"].samples, circles["people"].statements) == (124, 368)
    pairs = [pair for pair in of(original, "color").pairs if {pair.one, pair.other} <= {"ada", "bob", "eve"}]
    assert circles["people"].agreement == sum(pair.same for pair in pairs) / sum(pair.both for pair in pairs)
    assert circles["people"].alpha > circles["model against people"].alpha
    assert circles["model against people"].samples <= 50


def test_consensus_against_a_plain_count(original: Catalog) -> None:
    with original.read() as now:
        rows = [row for row in now.labels.by_annotator("color").to_pylist() if row["state"] == 1]
    people, net = {}, {}
    for row in rows:
        if row["source"] == "human":
            people.setdefault(row["sample_id"], []).append(row["code"])
        if row["source"] == "model":
            net[row["sample_id"]] = row["code"]
    agreed = {id_: Counter(codes).most_common(1)[0] for id_, codes in people.items()}
    judged = [code == agreed[id_][0] for id_, code in net.items() if 2 * agreed[id_][1] > len(people[id_])]
    (circle,) = [part for part in of(original, "color").circles if part.name == "model against people"]
    assert (circle.samples, circle.agreement) == (len(judged), pytest.approx(np.mean(judged)))


def test_each_annotator_is_counted_and_judged(original: Catalog) -> None:
    who = {part.name: part for part in of(original, "color").annotators}
    assert (who["eve"].labels, who["eve"].unsure, who["eve"].shared) == (120, 5, 120)
    assert (who["eve"].others, who["net"].others) == (4, 4)
    assert max(who["eve"].bias, key=lambda name: who["eve"].bias[name]) == "green"
    assert who["eve"].bias["red"] < 0
    assert sum(who["eve"].bias.values()) == pytest.approx(0)
    assert who["net"].majority < who["eve"].majority < who["ada"].majority
    assert who["eve"].confusion["red"]["green"] > 0.8
    assert who["ada"].accuracy > who["eve"].accuracy > who["net"].accuracy


def test_disputed_samples_have_a_likely_class(original: Catalog) -> None:
    disputed = of(original, "color").disputed.to_pylist()
    with original.read() as now:
        rows = [row for row in now.labels.by_annotator("color").to_pylist() if row["state"] == 1]
    codes: dict[int, set[int]] = {}
    for row in rows:
        codes.setdefault(row["sample_id"], set()).add(row["code"])
    assert {row["sample_id"] for row in disputed} == {id_ for id_, said in codes.items() if len(said) > 1}
    chances = [row["chance"] for row in disputed]
    assert chances == sorted(chances)
    assert {row["class"] for row in disputed} <= set(COLORS)


def test_numbers_are_compared_as_numbers(original: Catalog) -> None:
    speed = of(original, "speed")
    people = next(circle for circle in speed.circles if circle.name == "people")
    assert people.agreement == 0
    assert people.alpha == pytest.approx(
        krippendorff.alpha(reliability_data=[np.arange(20.0), np.arange(20.0) + 2], level_of_measurement="interval")
    )
    (ada,) = [part for part in speed.annotators if part.name == "ada"]
    assert ada.bias["km/h"] < 0
    assert (ada.accuracy, ada.confusion) == (None, None)


def test_several_classes_are_compared_one_by_one(original: Catalog) -> None:
    (everyone,) = of(original, "weather").circles
    assert (everyone.by_class["wet"], everyone.by_class["dust"]) == (1.0, None)
    assert everyone.by_class["snow"] < 0
    assert everyone.alpha == pytest.approx((1 + everyone.by_class["snow"]) / 2)
    assert everyone.agreement == 0.5
    assert of(original, "weather").annotators[1].bias == {"classes": 0.5}


def test_boxes_are_compared_by_how_many_there_are(original: Catalog) -> None:
    things = of(original, "things")
    people = next(circle for circle in things.circles if circle.name == "people")
    assert people.agreement == 1.0
    counts = [[n % 2 for n in range(10)], [2 * (n % 2) for n in range(10)]]
    assert people.alpha == pytest.approx(krippendorff.alpha(counts, level_of_measurement="interval"))


def test_no_confusion_is_fitted_for_very_many_classes(original: Catalog, tmp_path: Path) -> None:
    catalog = copy_home(original, tmp_path)
    with catalog.commit(author="ada", message="places") as change:
        names = tuple(f"place-{number}" for number in range(2000))
        change.add_tasks([Task(name="place", kind="categorical", classes=names, owner="ada")])
        for name, step in (("ada", 1), ("bob", 2)):
            rows = [label(f"pictures/{n:05d}", "place", names[n * step], name) for n in range(20)]
            change.add_labels(labels(rows), source="human")
    place = of(catalog, "place")
    assert [part.confusion for part in place.annotators] == [None, None]
    assert place.circles[0].agreement == 1 / 20
    assert place.disputed["class"].null_count == 19


def test_one_annotator_has_nothing_to_compare(original: Catalog) -> None:
    bike = of(original, "bike")
    assert [circle.alpha for circle in bike.circles] == [None]
    (vendor,) = bike.annotators
    assert (vendor.shared, vendor.others, vendor.majority, vendor.bias, vendor.accuracy) == (0, 0, None, {}, None)
    assert (bike.pairs, len(bike.disputed)) == ((), 0)


def test_a_task_without_labels_and_a_missing_task(original: Catalog, tmp_path: Path) -> None:
    catalog = copy_home(original, tmp_path)
    with catalog.commit(author="ada", message="fresh") as change:
        change.add_tasks([Task(name=kind, kind=kind, classes=() if kind in ("regression", "binary") else ("a", "b"),
                               unit="m" if kind == "regression" else "", owner="ada",
                               metric="mae" if kind == "regression" else "accuracy")
                          for kind in ("binary", "categorical", "multilabel", "regression", "detection")])  # fmt: skip
    for kind in ("binary", "categorical", "multilabel", "regression", "detection"):
        assert of(catalog, kind).row()["annotators"] == []
    with pytest.raises(NotFound, match="did you mean 'color'"):
        of(catalog, "colour")
