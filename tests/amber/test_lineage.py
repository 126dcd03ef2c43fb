"""`amber lineage`: the graph of a chain, as text, JSON and a page, and links that cannot be repeated."""

import json
import re
import shutil
from pathlib import Path

import pytest
from support.chains import Chain
from support.refusals import one_line

from amber.cli import run
from amber.forget import forget
from training.dynamics.lineage import Edge, Lineage, lineage_of

Capture = pytest.CaptureFixture[str]


def lineage(chain: Chain, name: str = "") -> Lineage:
    with chain.catalog.read() as now:
        return lineage_of(chain.catalog.home, now, name or chain.frozen.id)


def test_every_link_comes_after_those_that_it_was_made_of(chain: Chain) -> None:
    found = lineage(chain)
    assert [link.run for link in found.links] == [part.id for part in chain.runs]
    assert [link.origins for link in found.links] == [(), *((part.id,) for part in chain.runs[:3])]
    pixel, distilled, replanned, frozen = found.links
    assert (pixel.how, pixel.trunk, pixel.frozen) == (("learned from pixels",), "small, learned", ())
    assert "distilled" in distilled.how
    assert set(distilled.distilled) >= set(distilled.frozen) != set()
    assert distilled.learned == ("color", "car", "speed")
    assert len(distilled.course) > 1
    assert (replanned.how[-1], replanned.learned) == ("replanned", ("color", "car"))
    assert (frozen.features_of, frozen.parent) == (chain.replanned.id, "")
    assert {link.author for link in found.links} == {"ada"}


def test_plans_come_with_those_that_they_continue_and_with_who_signed(chain: Chain) -> None:
    found = lineage(chain)
    plans = {plan.plan: plan for plan in found.plans}
    child = plans[chain.replanned.plan]
    assert (child.parent, child.position, child.signed) == (chain.pixel.plan, 48, ("eve",))
    derived = [plan for plan in found.plans if plan.by == "training"]
    assert {plan.plan for plan in derived} == {plan for _, plan in chain.distilled.course[1:]}
    edges = list(found.edges())
    assert Edge(kind="features", source=chain.replanned.id, target=chain.frozen.id) in edges
    assert Edge(kind="weights", source=chain.pixel.id, target=chain.distilled.id) in edges
    assert Edge(kind="replan", source=chain.pixel.plan, target=child.plan) in edges
    names = {*plans, *(link.run for link in found.links)}
    assert {name for edge in edges for name in (edge.source, edge.target)} == names


def test_the_lineage_of_a_link_ends_there(chain: Chain) -> None:
    assert [link.run for link in lineage(chain, chain.distilled.id).links] == [chain.pixel.id, chain.distilled.id]


def test_text_json_and_page(chain: Chain, capsys: Capture) -> None:
    assert run(["lineage", "--out", "chain.html"]) == 0  # the newest run is the last link
    shown = capsys.readouterr().out
    assert f"Lineage of run {chain.frozen.id}" in shown
    assert re.search(rf"{chain.distilled.id} +│ {chain.pixel.id[:12]} +│", shown)
    page = Path("chain.html").read_text()
    assert page.count('marker-end="url(#tip)"') == 4 + 3
    assert page.count('class="features"') == 1
    assert "http://" not in page
    assert run(["lineage", chain.replanned.id[:8], "--json"]) == 0
    view = json.loads(capsys.readouterr().out)
    assert [link["run"] for link in view["links"]] == [part.id for part in chain.runs[:3]]
    assert view["broken"] == []
    assert {edge["kind"] for edge in view["edges"]} == {"weights", "plan", "replan"}


def test_links_that_were_withdrawn_or_are_gone_are_named(own_chain: Chain, capsys: Capture) -> None:
    catalog = own_chain.catalog
    with catalog.read() as now:
        key = now.samples()["key"][8].as_py()
    forget(catalog, key, author="ada")
    shutil.rmtree(catalog.home / "runs" / own_chain.pixel.id)
    found = lineage(own_chain)
    assert [link.state for link in found.links] == ["missing", "withdrawn", "withdrawn", "withdrawn"]
    assert found.broken[0] == f"run {own_chain.pixel.id}: is not in this workspace any more"
    assert run(["lineage", own_chain.frozen.id, "--out", "chain.html"]) == 0
    assert "was withdrawn, because an image that it learned from was forgotten" in capsys.readouterr().out
    assert "(missing)" in Path("chain.html").read_text()


def test_no_such_run(chain: Chain, capsys: Capture) -> None:
    assert run(["lineage", "nosuch"]) == 2
    assert "has no such run" in one_line(capsys.readouterr().err)
