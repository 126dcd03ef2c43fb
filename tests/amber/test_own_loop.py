"""After one's own loop: runs and plans in lists, ids by their beginning, moments of `diff`, and the report's end."""

import html
import json
import re
import shlex
import shutil
from pathlib import Path

import pytest
from support.homes import make_home
from support.lamps import ingested
from support.planted_runs import noisy, plant_run, planted_home

from amber.cli import run
from amber.loop import Loop, rounds_of, run_loop
from curation import Catalog, NotFound
from curation.catalog.ownership import os_user
from curation.requests.proposals import Proposal, choose_requests
from samplers import Policy, make_pack, make_plan
from samplers.plan.plan_list import list_plans
from training import Recipe, Run
from training.report import write_report
from training.run_list import list_runs

LOOP = Loop(rounds=2, start=12, budget=4, draws=128, recipe=Recipe(size=(32, 32), threads=1))


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the workspace `home`, in which a loop of three rounds ended."""
    folder = tmp_path_factory.mktemp("own")
    list(run_loop(Catalog.open(ingested(folder)), LOOP, author="ada"))
    return folder


@pytest.fixture
def here(done: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """That folder, to read."""
    return enter(done, monkeypatch)


def enter(folder: Path, patch: pytest.MonkeyPatch) -> Path:
    patch.chdir(folder)
    patch.setenv("AMBER_HOME", "home")
    patch.delenv("AMBER_AUTHOR", raising=False)
    return folder


def ids(home: Path = Path("home")) -> list[str]:
    """The runs of the loop, the oldest first."""
    with Catalog.open(home).read() as now:
        return [str(name) for name in now.runs()["run"].to_pylist()]


def printed(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    capsys.readouterr()
    assert run(list(words)) == 0
    return capsys.readouterr().out


def test_runs_are_listed(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = json.loads(printed(capsys, "runs", "--json"))
    assert [row["run"] for row in rows] == ids()[::-1]
    newest = rows[0]
    assert (newest["author"], newest["policy"], newest["withdrawn"], newest["parent"]) == ("ada", "even", "", ids()[1])
    assert newest["figures"][0]["task"] == "color"
    assert [row["commit"] for row in rows] == [10, 7, 4]
    text = printed(capsys, "runs", "-n", "1")
    assert re.search(rf"{ids()[2]} │ 20\d\d-\d\d-\d\d \d\d:\d\d │ ada", text)
    assert re.search(r"color [01]\.\d{3} \[", text)
    assert ids()[1] not in text


def test_a_run_that_is_withdrawn_or_not_evaluated_is_listed_so(here: Path, tmp_path: Path) -> None:
    shutil.copytree(here / "home", tmp_path / "home")
    last, first = ids()[2], ids()[0]
    (tmp_path / "home" / "runs" / first / "withdrawn.json").write_text('{"at": "2026-05-31T10:00:00"}')
    half = tmp_path / "home" / "runs" / ("beef" * 4)
    half.mkdir()
    shutil.copy(tmp_path / "home" / "runs" / last / "run.json", half)
    shutil.rmtree(tmp_path / "home" / "runs" / ids()[1])
    with Catalog.open(tmp_path / "home").read() as now:
        rows = {row.run: row for row in list_runs(tmp_path / "home", now)}
    assert rows[first].withdrawn.startswith("2026-05-31")
    assert (rows["beef" * 4].commit, rows["beef" * 4].author, rows["beef" * 4].figures) == (0, "", [])
    assert rows[ids()[1]].figures


def test_plans_are_listed_with_date_author_and_policy(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    catalog = make_home(tmp_path, samples=40)
    with catalog.read() as now:
        even = Policy.for_labelled(now)
    pack = make_pack(catalog)
    first = make_plan(catalog, even, pack, draws=64)
    other = even.model_copy(update={"phases": (0.5, 0.5)})
    assert run(["plan", "--list", "--home", str(catalog.home)]) == 0
    second = make_plan(catalog, even, pack, draws=128)
    with catalog.commit(author="ada", message="in force") as change:
        change.set_policy(other.model_dump_json(), other.sha256, by=os_user())
    with catalog.read() as now:
        rows = {row.plan: row for row in list_plans(catalog.home, now)}
    assert set(rows) == {first.hash, second.hash}
    assert (rows[first.hash].by, rows[first.hash].policy, rows[first.hash].draws) == (str(os_user()), "even", 64)
    assert "user:" in capsys.readouterr().out


@pytest.mark.parametrize(
    "words",
    [
        ["report", "--out", "by-prefix.html", "--run"],
        ["plan", "exposure", "--run"],
        ["request", "--author", "ada", "--run"],
        ["diff"],
    ],
    ids=" ".join,
)
def test_a_run_may_be_named_by_its_beginning(here: Path, words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    code = run([*words, ids()[1][:6]])
    err = capsys.readouterr().err
    # heads that were solved record no draws: that run was found, and its plan is named
    assert code == 0 or "its draws were not recorded" in err


def test_the_beginning_of_several_runs_names_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    catalog, plan = planted_home(tmp_path)
    for name in ("abcd01", "abcd02", "ef"):
        plant_run(catalog, plan, name, lambda task: noisy(catalog, task, signal=2.0))
    with pytest.raises(NotFound, match=r"run 'abcd': 2 begin so \(abcd01, abcd02\)"):
        Run.open(catalog.home, "abcd")
    assert Run.open(catalog.home, "e").id == "ef"
    with catalog.read() as now:
        assert choose_requests(now, Proposal(budget=2, seed=0, run="e"), catalog.home)[0]["run"] == "ef"
        with pytest.raises(NotFound, match="2 begin so"):
            now.runs.predictions_file(catalog.home, "ab")
    write_report(catalog, "e", tmp_path / "report.html")
    assert "<code>ef</code>" in (tmp_path / "report.html").read_text()
    assert run(["diff", "abcd", "--home", str(catalog.home)]) == 2
    assert "2 begin so (abcd01, abcd02)" in capsys.readouterr().err


@pytest.mark.parametrize(("words", "span"), {
    "commits": (["1", "4"], "commit 1 to 4"),
    "runs": (["RUN0", "RUN2"], "commit 3 to 9"),
    "a run and now": (["RUN1"], "commit 6 to 10"),
    "a day": (["2999-01-01"], "commit 10 to 10"),
    "a plan": (["PLAN0", "4"], "commit 3 to 4"),
}.values())  # fmt: skip
def test_diff_takes_moments(here: Path, words: list[str], span: str, capsys: pytest.CaptureFixture[str]) -> None:
    runs = ids()
    names = {f"RUN{i}": name[:8] for i, name in enumerate(runs)} | {"PLAN0": Run.open(Path("home"), runs[0]).plan[:9]}
    text = printed(capsys, "diff", *(names.get(word, word) for word in words))
    assert span in text
    assert ("figures on test" in text.lower()) == (words == ["RUN0", "RUN2"])


@pytest.mark.parametrize(("word", "message"), {
    "a date before all": ("1999-01-01", "no commit is that old; the first one is of 20"),
    "no date": ("2026-99-01", "must be as 2026-05-31"),
    "a word": ("monday", "must be a commit, a date as in"),
    "the later first": ("9", "the earlier one comes first"),
}.values())  # fmt: skip
def test_moments_that_diff_refuses(here: Path, word: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert run(["diff", word, *(["4"] if word == "9" else [])]) == 2
    assert message in capsys.readouterr().err


def test_diff_shows_slices(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    catalog = make_home(tmp_path, samples=10)
    with catalog.commit(author="ada", message="slices") as change:
        change.add_slice("dark", "attr.night")
        change.remove_slice("night")
    rows = json.loads(printed(capsys, "diff", "1", "--json", "--home", str(catalog.home)))["slices"]
    assert rows == [
        {"slice": "night", "before": "attr.night", "after": None},
        {"slice": "dark", "before": None, "after": "attr.night"},
    ]


def test_the_rounds_of_a_loop_are_read_from_the_catalog(done: Path) -> None:
    catalog = Catalog.open(done / "home")
    again = list(run_loop(catalog, LOOP, author="ada"))
    with catalog.read() as now:
        assert rounds_of(now, ids(catalog.home)[2]) == again
        assert rounds_of(now, ids(catalog.home)[1]) == again[:2]
        assert rounds_of(now, "none") == []


def test_the_report_of_a_loop_has_its_curves_and_the_run_before(here: Path) -> None:
    assert run(["report", "--out", "own.html"]) == 0
    page = Path("own.html").read_text()
    assert '<section id="loop"' in page
    assert f"Compared with its parent, <code>{ids()[1]}</code>" in page[page.index('id="before"') :]
    assert run(["report", "--out", "first.html", "--run", ids()[0]]) == 0
    assert '<section id="before"' not in Path("first.html").read_text()


def test_the_report_ends_with_commands_that_work_as_typed(
    done: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(done / "home", tmp_path / "my home")
    monkeypatch.chdir(tmp_path)
    assert run(["report", "--home", "my home", "--out", "own.html"]) == 0
    page = Path("own.html").read_text()
    section = page[page.index('<section id="next"') :]
    commands = [html.unescape(text) for text in re.findall(r"<code>(amber .*?)</code></pre>", section)]
    assert [command.split()[1] for command in commands] == ["request", "oracle", "plan", "train", "report", "runs"]
    for command in commands:
        assert run(shlex.split(command)[1:]) == 0, command
    assert len(ids(tmp_path / "my home")) == 4


def test_the_next_steps_ask_people_where_nothing_was_held_back(tmp_path: Path) -> None:
    catalog, plan = planted_home(tmp_path)
    plant_run(catalog, plan, "ab", lambda task: noisy(catalog, task, signal=2.0), recipe=Recipe.of("small"))
    write_report(catalog, "ab", tmp_path / "report.html")
    section = (tmp_path / "report.html").read_text().split('<section id="next"')[1]
    commands = [html.unescape(text) for text in re.findall(r"<code>(amber .*?)</code></pre>", section)]
    assert [" ".join(c.split()[1:3]) for c in commands[1:4]] == ["label start", "label push", "label pull"]
    assert any("--trunk small --size" in command for command in commands)


def test_the_next_steps_of_a_recipe_file_name_no_other_recipe(tmp_path: Path) -> None:
    catalog, plan = planted_home(tmp_path)
    recipe = Recipe.of("small", clip=1.0)
    plant_run(catalog, plan, "ab", lambda task: noisy(catalog, task, signal=2.0), recipe=recipe)
    write_report(catalog, "ab", tmp_path / "report.html")
    section = (tmp_path / "report.html").read_text().split('<section id="next"')[1]
    assert "--recipe" in section
    assert "amber train --" not in section
