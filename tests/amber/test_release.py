"""`amber release`: what a gate passes is deployed, and the way back; everything else is refused and leaves nothing."""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import onnxruntime
import pytest
from support.chains import Chain
from support.homes import copy_home, work_in
from support.refusals import one_line, refused

from amber.cli import run
from amber.forget import forget
from amber.prune import prune
from curation.catalog.catalog import Catalog
from curation.catalog.ownership import Identity
from curation.files.locks import locked
from samplers.plan.waiting import Waiting, waiting_sign_offs
from training.dynamics.releases import champion, releases, stack_of, verify_release

Capture = pytest.CaptureFixture[str]

KEY = "pictures/00008"
"""An image that every run learned from."""


def rules(**words: str) -> str:
    """Rules that judge every task of the chain; `words` replace margins and floors of one task."""
    given = {"color": ("90 points", "1 point"), "car": ("90 points", "1 point"), "speed": ("400 km/h", "900 km/h")}
    parts = [
        f'[[judge]]\ntask = "{name}"\nmargin = "{margin}"\nfloor = "{floor}"\n'
        for name, (margin, floor) in given.items()
    ]
    return "".join(part for part in parts if f'"{words.get("without", "")}"' not in part)


@pytest.fixture(scope="module")
def deployed(made_chain: Chain, tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    """A workspace in which the first and then the second run of the chain were released."""
    folder = tmp_path_factory.mktemp("deployed")
    catalog = copy_home(made_chain.catalog, folder)
    with pytest.MonkeyPatch.context() as patch:
        work_in(folder, patch)
        Path("gate.toml").write_text(rules())
        Path("notes.md").write_text("For the yard at night only.\n")
        for part in (made_chain.pixel, made_chain.distilled):
            assert run(["release", part.id, "--gate", "gate.toml", "--notes", "notes.md"]) == 0
    return catalog


@pytest.fixture
def own(deployed: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Catalog:
    """A copy of it in the current folder."""
    work_in(tmp_path, monkeypatch)
    Path("gate.toml").write_text(rules())
    return copy_home(deployed, tmp_path)


def pointer() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Path("home/releases/current.json").read_text())
    return found


def test_a_deployment_finds_the_network_by_the_pointer(own: Catalog, made_chain: Chain) -> None:
    found = pointer()
    assert (found["run"], found["number"]) == (made_chain.distilled.id, 2)
    folder = Path("home") / found["path"]
    assert {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in found["files"]} == found["files"]
    assert found["digest"] == found["files"]["model.json"]
    session = onnxruntime.InferenceSession(str(folder / "model.onnx"))
    assert {part.name for part in session.get_outputs()} == {"color", "car", "speed"}
    with own.read() as now:
        assert champion(now) == found["run"]
        (first, second) = releases(now)
    assert (first.before, second.before) == ("", made_chain.pixel.id)
    record = verify_release(own.home, second.digest)
    assert (record.against, record.plan, record.accepted) == (made_chain.pixel.id, made_chain.distilled.plan, ())


def test_the_card_says_what_and_for_whom(own: Catalog, made_chain: Chain) -> None:
    folder = (Path("home") / pointer()["path"]).parent
    gate = json.loads((folder / "gate.json").read_text())
    for name in ("card.md", "card.html"):
        text = (folder / name).read_text()
        for wanted in (
            f"release 2, run {made_chain.distilled.id}", "For the yard at night only.", "eve", "anybody",
            "too little data", gate["evaluation_set"]["digest"], "1 times before", f"run {made_chain.pixel.id}",
        ):  # fmt: skip
            assert wanted in text, (name, wanted)
    assert "http://" not in (folder / "card.html").read_text()
    assert [link["run"] for link in json.loads((folder / "lineage.json").read_text())["links"]] == [
        made_chain.pixel.id, made_chain.distilled.id,
    ]  # fmt: skip


def test_back_deploys_the_release_before_and_refuses_where_there_is_none(
    own: Catalog, made_chain: Chain, capsys: Capture
) -> None:
    assert run(["release", "--back", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["released"]["run"], found["before"]) == (made_chain.pixel.id, made_chain.distilled.id)
    assert pointer() == found["released"]
    assert "is the only release" in refused(capsys, "release", "--back")
    assert run(["release", "--list", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert [(row["act"], row["deployed"]) for row in listed["releases"]] == [
        ("release_back", True), ("release", False), ("release", False),
    ]  # fmt: skip
    with own.read() as now:
        assert [each.run for each in stack_of(releases(now))] == [made_chain.pixel.id]
    assert run(["catalog", "verify"]) == 0


def test_a_release_that_was_killed_before_its_pointer_is_completed(own: Catalog, capsys: Capture) -> None:
    before = pointer()
    Path("home/releases/current.json").unlink()
    Path("home/releases/0123456789abcdef/export").mkdir(parents=True)  # killed before its act
    assert run(["release", before["run"], "--gate", "gate.toml"]) == 0
    assert "is deployed already" in capsys.readouterr().out
    assert pointer() == before
    assert not Path("home/releases/0123456789abcdef").exists()


def test_prune_keeps_the_weights_of_releases(own: Catalog, made_chain: Chain) -> None:
    gone = {part.path for part in prune(own, older=-1, checkpoints=True)}
    assert not any(part.id in path for part in (made_chain.pixel, made_chain.distilled) for path in gone)
    assert (own.home / pointer()["path"] / "model.onnx").is_file()


def test_back_passes_over_what_was_withdrawn_and_refuses_what_is_damaged(own: Catalog, capsys: Capture) -> None:
    with own.read() as now:
        first = releases(now)[0]
    model = own.home / "releases" / first.digest[:16] / "export" / "model.onnx"
    kept = model.read_bytes()
    model.write_bytes(kept[:-1])
    before = pointer()
    assert "model.onnx: differs from what was written" in refused(capsys, "release", "--back", code=4)
    assert pointer() == before
    assert run(["catalog", "verify"]) == 4
    model.write_bytes(kept)
    capsys.readouterr()
    forget(own, KEY, author="ada")
    assert "1 before it are withdrawn" in refused(capsys, "release", "--back")


@pytest.fixture
def fresh(own_chain: Chain) -> Chain:
    """The chain without a release."""
    Path("gate.toml").write_text(rules())
    return own_chain


def nothing_released(capsys: Capture, *words: str, code: int = 2) -> str:
    line = refused(capsys, "release", *words, code=code)
    assert not list(Path("home").glob("releases/*"))
    assert not Path("gate.md").exists()
    return line


def test_nothing_is_released_without_a_gate(fresh: Chain, capsys: Capture) -> None:
    assert "nothing is released without a gate" in nothing_released(capsys, fresh.pixel.id)
    Path("gate.toml").write_text(rules().replace("floor", "# floor"))
    line = nothing_released(capsys, fresh.pixel.id, "--gate", "gate.toml")
    assert "has no floor, and there is no run to compare with" in line
    Path("gate.toml").write_text(rules() + '[team]\nrule = "metric"\nmetric = "map"\nmargin = "1 point"\n')
    assert "the team's rule compares with a run" in nothing_released(capsys, fresh.pixel.id, "--gate", "gate.toml")


def test_what_does_not_pass_is_not_released(fresh: Chain, capsys: Capture) -> None:
    Path("gate.toml").write_text(rules().replace('floor = "1 point"', 'floor = "99 points"'))
    assert run(["release", fresh.pixel.id, "--gate", "gate.toml", "--json"]) == 11
    found = json.loads(capsys.readouterr().out)
    assert (found["outcome"], found["released"], found["folder"]) == ("not enough data", None, None)
    assert Path("gate.md").read_text().startswith("# Gate: not enough data")
    assert not list(Path("home").glob("releases/*"))


def waiting(chain: Chain) -> list[Waiting]:
    with chain.catalog.read() as now:
        return waiting_sign_offs(chain.catalog.home, now)


def test_a_task_that_is_not_judged_needs_its_owner(fresh: Chain, capsys: Capture) -> None:
    Path("gate.toml").write_text(rules(without="speed"))
    with fresh.catalog.commit(author="eve", message="members") as change:
        change.set_members("eve", [Identity(name="eve", via="token")], by=Identity(name="eve", via="token"))
    words = (fresh.pixel.id, "--gate", "gate.toml")
    assert "does not judge speed (eve) on everything" in nothing_released(capsys, *words)
    assert [(row.what, row.subject, list(row.losses)) for row in waiting(fresh)] == [
        ("release", fresh.pixel.id, ["eve"])
    ]
    assert "needs eve (token:eve)" in nothing_released(capsys, *words, "--sign", "eve")
    assert "owns no task" in nothing_released(capsys, *words, "--sign", "nobody")
    with fresh.catalog.commit(author="eve", message="nobody in particular") as change:
        change.set_members("eve", [], by=Identity(name="eve", via="token"))
    assert run(["release", *words, "--sign", "eve"]) == 0
    assert "eve accepts the release" in capsys.readouterr().out
    assert waiting(fresh) == []
    Path("gate.toml").write_text(rules(without="speed").replace("1 point", "2 points", 1))
    assert "does not judge speed" in nothing_released(capsys, *words)  # she signed other rules


def test_damaged_withdrawn_and_foreign_runs_are_refused(fresh: Chain, capsys: Capture) -> None:
    home, words = fresh.catalog.home, ("--gate", "gate.toml")
    weights = home / "runs" / fresh.pixel.id / "checkpoints" / "last.pt"
    kept = weights.read_bytes()
    weights.write_bytes(kept[: len(kept) // 2])
    assert "last.pt: cannot be read" in nothing_released(capsys, fresh.pixel.id, *words, code=4)
    weights.write_bytes(kept)
    predictions = home / "runs" / fresh.pixel.id / "predictions.parquet"
    kept = predictions.read_bytes()
    predictions.write_bytes(kept[:-1] + b"x")
    assert "predictions.parquet" in nothing_released(capsys, fresh.pixel.id, *words, code=4)
    predictions.write_bytes(kept)
    assert "is the run itself" in nothing_released(capsys, fresh.pixel.id, *words, "--against", fresh.pixel.id)
    with locked(home / "releases.lock", str):
        assert "releases a run there; wait for it" in nothing_released(capsys, fresh.pixel.id, *words, code=3)
    shutil.move(home / "runs" / fresh.pixel.id, home.parent / "elsewhere")
    line = nothing_released(capsys, fresh.distilled.id, *words)
    assert f"run {fresh.pixel.id}: is not in this workspace any more" in line
    shutil.move(home.parent / "elsewhere", home / "runs" / fresh.pixel.id)
    forget(fresh.catalog, KEY, author="ada")
    assert "was withdrawn, because an image" in nothing_released(capsys, fresh.pixel.id, *words)


def test_the_deployed_run_is_what_a_release_is_judged_against(own: Catalog, made_chain: Chain, capsys: Capture) -> None:
    before = pointer()
    line = refused(capsys, "release", made_chain.frozen.id, "--gate", "gate.toml", "--against", made_chain.pixel.id)
    assert f"run {made_chain.distilled.id} is deployed, and a release is judged against it" in line
    assert run(["release", "--back", "--gate", "gate.toml"]) == 2
    assert "--back: takes no --gate" in one_line(capsys.readouterr().err)
    assert pointer() == before
