"""Missingness: the usual tests where samples are independent, and valid p-values where they come in bursts."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from scipy import stats
from support.homes import label, labels, make_home

from curation import Catalog
from curation.analysis.missingness import Difference, compare, label_missingness

COLUMNS = ["night", "town", "height"]


def bursts(seed: int, *, depends: bool = False, bursty: bool = True) -> pa.Table:
    """Attributes and labels of 400 bursts of 1 to 9 frames; with `depends`, night is labelled four times as often."""
    generator = np.random.default_rng(seed)
    burst = np.repeat(np.arange(400), generator.integers(1, 10, 400))[:1500]
    unit = burst if bursty else np.arange(len(burst))
    count = unit[-1] + 1
    night, town = generator.random(count) < 0.4, generator.choice(["ulm", "bonn", "kiel", "jena"], count)
    chance = np.where(night & depends, 0.4, 0.1)
    return pa.table(
        {
            "group": [f"burst-{number}" for number in unit],
            "night": night[unit],
            "town": town[unit],
            "height": generator.gamma(2, 3, count)[unit],
            "labelled": (generator.random(count) < chance)[unit],
        }
    )


def found(table: pa.Table) -> dict[str, Difference]:
    who = {"task": table["labelled"].to_numpy()}
    return {part.attribute: part for part in compare(who, {name: table[name] for name in COLUMNS}, table["group"])}


def test_independent_samples_have_the_usual_tests() -> None:
    table = bursts(3, depends=True, bursty=False)
    mine, y = found(table), table["labelled"].to_numpy()
    for name in ("night", "town"):
        values = np.array(table[name].to_pylist()).astype(str)
        counts = [[(values[y == part] == value).sum() for value in np.unique(values)] for part in (True, False)]
        usual = stats.chi2_contingency(counts, correction=False)
        assert mine[name].statistic == pytest.approx(usual.statistic, rel=0.35)
        assert mine[name].effect == pytest.approx(np.sqrt(usual.statistic / len(y)))
        assert mine[name].freedom == usual.dof
        assert mine[name].design == pytest.approx(1, abs=0.3)
    height = table["height"].to_numpy()
    usual = stats.mannwhitneyu(height[y], height[~y])
    assert mine["height"].p == pytest.approx(usual.pvalue, rel=0.1, abs=0.01)
    assert mine["height"].effect == pytest.approx(2 * usual.statistic / (y.sum() * (~y).sum()) - 1)


def test_the_statistic_is_that_of_scores_summed_sample_by_sample() -> None:
    table = bursts(3, depends=True)
    y, group = table["labelled"].to_numpy().astype(float), np.array(table["group"].to_pylist())
    height, town = table["height"].to_numpy(), np.array(table["town"].to_pylist())
    values = np.stack([town == name for name in ("ulm", "bonn", "kiel")], axis=1).astype(float)
    for name, x in (("height", (stats.rankdata(height) / len(height))[:, None]), ("town", values)):
        each = (x - x.mean(axis=0)) * (y - y.mean())[:, None]
        sums = np.stack([each[group == part].sum(axis=0) for part in np.unique(group)])
        score, spread = sums.sum(axis=0), sums.T @ sums
        part = found(table)[name]
        assert part.statistic == pytest.approx(score @ np.linalg.solve(spread, score))
        independent = len(y) * y.var() * x.var(axis=0).sum()
        assert (part.groups, part.freedom) == (len(sums), x.shape[1])
        if name == "height":
            assert part.design == pytest.approx(np.trace(spread) / independent)


@pytest.mark.parametrize("bursty", [False, True])
def test_at_random_p_is_uniform(bursty: bool) -> None:
    """In 400 data sets without a cause, p is below a level in about that share of them, and false alarms are few."""
    runs = [found(bursts(seed, bursty=bursty)) for seed in range(400)]
    for name in COLUMNS:
        p = np.array([run[name].p for run in runs])
        assert [(p < level).mean() for level in (0.05, 0.25, 0.5, 0.75)] == pytest.approx(
            [0.05, 0.25, 0.5, 0.75], abs=0.1
        )
        assert (p < 0.05).mean() <= 0.1
    assert np.mean([min(part.q for part in run.values()) < 0.05 for run in runs]) <= 0.09


def test_without_the_correction_bursts_would_look_significant() -> None:
    tables = [bursts(seed) for seed in range(60)]
    naive = [stats.mannwhitneyu(*(t["height"].to_numpy()[t["labelled"].to_numpy() == part] for part in (True, False)))
             for t in tables]  # fmt: skip
    assert np.mean([part.pvalue < 0.05 for part in naive]) > 0.2
    assert np.mean([found(table)["night"].design for table in tables]) > 2


@pytest.mark.parametrize("bursty", [False, True])
def test_a_planted_dependence_is_found(bursty: bool) -> None:
    runs = [found(bursts(seed, depends=True, bursty=bursty)) for seed in range(20)]
    assert all(run["night"].q < 0.01 for run in runs)
    assert all(next(iter(run)) == "night" for run in runs)
    assert all(run["night"].shares["true"] > 2 * run["night"].shares["false"] for run in runs)
    assert np.mean([min(run["town"].q, run["height"].q) < 0.05 for run in runs]) <= 0.2


def test_rates_are_corrected_over_all_pairs() -> None:
    tables = [bursts(seed, depends=seed < 2) for seed in range(6)]
    who = {f"task_{seed}": table["labelled"].to_numpy() for seed, table in enumerate(tables)}
    parts = compare(who, {"height": tables[0]["height"], "night": tables[0]["night"]}, tables[0]["group"])
    assert len(parts) == 12
    assert [part.q for part in parts] == pytest.approx(stats.false_discovery_control([part.p for part in parts]))
    assert [part.q for part in parts] == sorted(part.q for part in parts)


def test_rare_values_are_merged_and_missing_ones_are_a_value() -> None:
    generator = np.random.default_rng(0)
    value = [f"rare-{number}" if number < 30 else None if number < 60 else "common" for number in range(600)]
    (part,) = compare(
        {"task": generator.random(600) < 0.5}, {"place": pa.chunked_array([value])},
        pa.chunked_array([[f"group-{number}" for number in range(600)]]),
    )  # fmt: skip
    assert list(part.shares) == ["common", "(none)", "(rare)"]


def test_a_constant_attribute_is_not_tested() -> None:
    groups = pa.chunked_array([[f"group-{number}" for number in range(40)]])
    half = np.arange(40) % 2 == 0
    attributes = {
        "one": pa.chunked_array([["same"] * 40]), "drive": groups, "flat": pa.chunked_array([[1.0] * 40]),
        "nothing": pa.chunked_array([pa.nulls(40, pa.float64())]),
    }  # fmt: skip
    assert compare({"task": half}, attributes, groups) == []
    varied = {"number": pa.chunked_array([np.arange(40.0)])}
    assert compare({"none": half & False, "all": half | True}, varied, groups) == []
    assert compare({}, {}, pa.chunked_array([pa.array([], pa.string())])) == []


def test_of_a_catalog(tmp_path: Path) -> None:
    catalog = make_home(tmp_path, samples=240)
    with catalog.read() as now:
        assert {part.attribute for part in label_missingness(now)} == {"night"}
        dark = {row["sample_id"] for row in now.attribute("night").to_pylist() if row["value"]}
        keys = {row["sample_id"]: row["key"] for row in now.samples().to_pylist()}
    with catalog.commit(author="ada", message="nights") as change:
        change.add_labels(labels([label(keys[id_], "things", [], "ada") for id_ in sorted(dark)]), source="human")
    with catalog.read() as now:
        first = label_missingness(now)[0]
    assert (first.task, first.attribute, first.test) == ("things", "night", "chi-square")
    assert (first.q < 1e-6, first.shares["true"]) == (True, 1.0)
    assert first.samples == 216


def test_of_an_empty_catalog(tmp_path: Path) -> None:
    with Catalog.create(tmp_path).read() as now:
        assert label_missingness(now) == []
