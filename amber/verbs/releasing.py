"""The verb `amber release`."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Group

from amber.completion import RUN
from amber.exit_codes import OUTCOMES
from amber.extras import need_extra
from amber.terminal import Screen, note, show, table
from amber.verbs.identities import identity, token_option
from amber.verbs.options import maybe_author, text_of, using_files, workspace
from amber.verbs.runs import HASH, shown_time
from curation.catalog.catalog import Catalog, check_author
from curation.errors import BadInput
from training.run_list import newest_run

if TYPE_CHECKING:
    from amber.release import Released

__all__ = ["release_command"]


@click.command("release")
@click.argument("run_", metavar="[RUN]", default="", type=RUN)
@click.option(
    "--gate",
    "rules_file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="TOML file with what is judged, as for `amber gate`; a release without one is refused.",
)
@click.option(
    "--against", default="", type=RUN, help="Run to judge the first release against; default: by the rules' floors."
)
@click.option("--sign", default="", metavar="OWNER", help="Only sign for OWNER, whose tasks the rules leave out.")
@click.option("--back", is_flag=True, help="Deploy the release before again.")
@click.option("--list", "listed", is_flag=True, help="List the releases instead.")
@click.option(
    "--notes", type=click.Path(path_type=Path), metavar="FILE", help="Text for the model card: what it is for."
)
@click.option(
    "--out",
    default="gate.md",
    show_default=True,
    type=click.Path(path_type=Path),
    help="Gate's report to write; its JSON lies beside it.",
)
@maybe_author
@token_option
@workspace
@using_files
def release_command(
    run_: str, rules_file: Path | None, against: str, sign: str, back: bool, listed: bool, notes: Path | None,
    out: Path, author: str, token: str, home: str, as_json: bool,
) -> None:  # fmt: skip
    """Deploy RUN (default: the newest), if the gate passes it against the run that is deployed now.

    Beside the exported network lie the gate's report, the lineage and a model card, in a folder of `releases/` that
    never changes. `releases/current.json` names what is deployed. Every task must be judged on everything, or its owner
    signs. Exit codes are those of `amber gate`: 0 released, 10 blocked, 11 not enough data.

    Example: amber release --gate gate.toml, and if it fails in the field: amber release --back
    """
    catalog = Catalog.open(home)
    given = {"--gate": rules_file, "--sign": sign, "--against": against, "RUN": run_, "--notes": notes}
    if listed or back:
        if wrong := [name for name, value in given.items() if value] + (["--back"] if listed and back else []):
            raise BadInput(f"release {'--list' if listed else '--back'}: takes no {wrong[0]}; leave it out")
        _list(catalog, as_json) if listed else _back(catalog, author, token, as_json)
        return
    if rules_file is None:
        raise BadInput("release: needs --gate FILE, the rules to judge by; nothing is released without a gate")
    with catalog.read() as now:
        run_ = run_ or newest_run(catalog.home, now)
    by = identity(catalog.home, token)
    if sign:
        from amber.release import sign_release

        run_, base = sign_release(catalog, run_, rules_file, sign, by=by, against=against)
        data = {"run": run_, "against": base, "signed": sign, "by": str(by)}
        show(data, as_json, lambda: f"{sign} accepts the release of {run_} against {base or 'floors'} (signed by {by})")
        return
    check_author(author)
    need_extra("train")
    need_extra("export")
    from amber.release import release

    screen = Screen(quiet=as_json)
    with screen.stages():
        done = release(
            catalog, run_, rules_file, by=by, author=author, against=against, notes=text_of(notes) if notes else "",
            home=home, progress=partial(screen.tell, "release"),
        )  # fmt: skip
    _show(done, run_, out, as_json)


def _show(done: "Released", run: str, out: Path, as_json: bool) -> None:
    """What became of a release; ends with the gate's exit code."""
    from amber.gate import gate_lines
    from training.judging.gate_report import write_gate_report

    decision = done.decision
    if decision is None:
        data: dict[str, Any] = {"outcome": "pass", "released": done.pointer, "gate": None, "folder": None, "report": []}
        show(data, as_json, lambda: f"run {run} is deployed already; nothing was released")
        return
    written = write_gate_report(decision.view, decision.result, out)
    outcome = decision.result.outcome
    data = {
        "outcome": outcome, "released": done.pointer, "gate": decision.view, "report": [str(path) for path in written],
        "folder": str(done.folder) if done.folder else None,
    }  # fmt: skip
    last = [f"released as number {done.pointer['number']}: {done.folder}"] if done.pointer else [
        f"not released: {outcome}", *decision.view["next"]
    ]  # fmt: skip
    show(data, as_json, lambda: Group(*gate_lines(decision.view), f"report {out}", *last))
    if code := OUTCOMES[outcome]:
        raise click.exceptions.Exit(code)


def _back(catalog: Catalog, author: str, token: str, as_json: bool) -> None:
    from amber.release import go_back

    check_author(author)
    done = go_back(catalog, by=identity(catalog.home, token), author=author)
    for run in done.skipped:
        note(f"run {run} was withdrawn, so its release is passed over")
    data = {"released": done.pointer, "before": done.before, "skipped": done.skipped}
    show(data, as_json, lambda: f"run {done.pointer['run']} is deployed again, in place of {done.before}")


def _list(catalog: Catalog, as_json: bool) -> None:
    """Every release and return, the newest first, and which one is deployed."""
    from training.dynamics.flattened_mark import FlattenedMark
    from training.dynamics.releases import folder_of, releases, write_pointer

    with catalog.read() as now:
        history = releases(now)
        pointer = write_pointer(catalog.home, now)
    rows: list[dict[str, Any]] = [
        {
            "run": each.run, "act": each.act, "at": each.at.isoformat(timespec="seconds"), "by": str(each.by),
            "before": each.before, "release": each.digest, "commit": each.commit, "deployed": each is history[-1],
            "withdrawn": (catalog.home / "runs" / each.run / "withdrawn.json").is_file(),
            "folder": str(folder_of(catalog.home, each.digest)),
            "flattened": mark.text if (mark := FlattenedMark.of(catalog.home, each.run)) else "",
        }
        for each in reversed(history)
    ]  # fmt: skip
    columns = ["run", "date (UTC)", "by", "what", "in place of", "release", "deployed", "withdrawn"]
    times = {each.commit: shown_time(each.at) for each in history}
    cells = [
        [
            row["run"], times[row["commit"]], row["by"], row["act"].replace("_", " "), row["before"][:HASH] or "-",
            row["release"][:HASH], row["deployed"], row["withdrawn"],
        ]
        for row in rows
    ]  # fmt: skip
    marks = dict.fromkeys(f"run {row['run']}: {row['flattened']}" for row in rows if row["flattened"])
    show({"releases": rows, "current": pointer}, as_json, lambda: Group(table("Releases", columns, cells), *marks))
