"""Routes about releases: the list, a release that goes on in the background, signing for an owner, and going back."""

from fastapi import APIRouter

from amber.service.access import Admin, AnyLabeler, Reader, Served, Workspace, batch_of
from amber.service.facts.finite import finite
from amber.service.facts.releasing import Working
from amber.service.facts.run_work import RunWork, Works
from amber.service.models.ledger import FAULTS
from amber.service.models.runs import (
    ReleaseAsked,
    ReleaseRow,
    ReleaseSigned,
    ReleasesRow,
    ReturnAsked,
    Returned,
    SignedRelease,
    WorkRow,
)
from amber.service.routes.tables_out import TABLES, Format, table_out
from amber.service.tokens import Token
from curation.catalog.catalog import Catalog
from curation.catalog.ownership import Identity
from curation.errors import BadInput
from training.dynamics.releases import champion, releases
from training.judging.gate_rules import GateRules

__all__ = ["begin_release", "released", "return_back", "router", "sign_release_of", "sign_waiting_of"]

router = APIRouter(prefix="/api", responses=FAULTS)


@router.get("/releases", response_model=ReleasesRow, responses=TABLES)
def listed(token: Reader, workspace: Served, work: Works, format: Format = "json") -> object:
    """All releases, the newest first, the deployed run, and the release that goes on. As Arrow or CSV only the
    releases."""
    found = released(workspace, work)
    return found if format == "json" else table_out(found.releases, format, of=ReleaseRow)


@router.post("/releases", status_code=202)
def release(token: Admin, workspace: Served, work: Works, asked: ReleaseAsked) -> WorkRow:
    """Begin to release a run, as `amber release`: GET /api/releases says how far it is. 503 while another goes on."""
    by = Identity(name=token.name, via="token")
    return _work_row(begin_release(work, asked.run, asked.rules, by=by, against=asked.against, notes=asked.notes))


@router.post("/releases/signed")
def sign(token: AnyLabeler, workspace: Served, signed: ReleaseSigned) -> SignedRelease:
    """Accept for an owner a release whose rules leave tasks of that owner out, as `amber release --sign OWNER`; by
    `rules_sha256` one that waits, as /api/sign-offs names it."""
    if bool(signed.rules) == bool(signed.rules_sha256):
        raise BadInput("rules: give them or their rules_sha256, one of both")
    if signed.rules_sha256:
        if not signed.batch:
            raise BadInput("batch: is missing; a random word makes a repeated request do nothing")
        hashes = signed.run, signed.against, signed.rules_sha256
        return sign_waiting_of(workspace, token, hashes, signed.owner, batch=signed.batch)
    by = Identity(name=token.name, via="token")
    run, against = sign_release_of(
        workspace.catalog, signed.run, signed.rules, signed.owner, by=by, against=signed.against
    )
    return SignedRelease(run=run, against=against, owner=signed.owner, by=str(by))


@router.post("/releases/back")
def back(token: Admin, workspace: Served, asked: ReturnAsked) -> Returned:
    """Deploy the release before again, as `amber release --back`."""
    by = Identity(name=token.name, via="token")
    return return_back(workspace.catalog, asked.deployed, by=by)


def released(workspace: Workspace, work: RunWork) -> ReleasesRow:
    """The releases of a workspace as the API and the pages show them."""
    home = workspace.catalog.home
    with workspace.catalog.read() as now:
        history, deployed = releases(now), champion(now)
    rows = [
        ReleaseRow(
            run=each.run, act=each.act, at=each.at, by=str(each.by), before=each.before, release=each.digest,
            commit=each.commit, deployed=each is history[-1],
            withdrawn=(home / "runs" / each.run / "withdrawn.json").is_file(),
        )
        for each in reversed(history)
    ]  # fmt: skip
    return ReleasesRow(
        releases=rows, deployed=deployed, work=_work_row(work.releasing.now) if work.releasing.now else None
    )


def begin_release(work: RunWork, run: str, rules: str, *, by: Identity, against: str = "", notes: str = "") -> Working:
    """Begin to release a run by the TOML text `rules`; `run` may be the beginning of its id. Busy while another one is
    released."""
    with work.catalog.read() as now:
        id_ = now.runs.full_id(run)
        against = now.runs.full_id(against) if against else ""
    return work.releasing.begin(id_, rules, by=by, author=by.name, against=against, notes=notes)


def sign_release_of(
    catalog: Catalog, run: str, rules: str, owner: str, *, by: Identity, against: str = ""
) -> tuple[str, str]:
    """Sign for an owner, by the TOML text `rules`: the ids of the run and of the one that it replaces."""
    from amber.release import sign_release

    return sign_release(catalog, run, GateRules.of_text(rules), owner, by=by, against=against)


def sign_waiting_of(
    workspace: Workspace, token: Token, hashes: tuple[str, str, str], owner: str, *, batch: str
) -> SignedRelease:
    """Sign for an owner a release that was refused and waits: its run, the run that it replaces, and the hash of its
    rules. The same batch again changes nothing."""
    from amber.release import sign_waiting_release

    by = Identity(name=token.name, via="token")
    sign_waiting_release(workspace.catalog, hashes, owner, by=by, batch=batch_of(token, batch))
    return SignedRelease(run=hashes[0], against=hashes[1], owner=owner, by=str(by))


def return_back(catalog: Catalog, deployed: str, *, by: Identity) -> Returned:
    """Go back to the release before; BadInput where another run than `deployed` is deployed, as after a double
    click."""
    from amber.release import go_back

    with catalog.read() as now:
        found = champion(now)
    if found and found != deployed:
        raise BadInput(f"run {deployed}: is not deployed ({found} is); look at the releases again")
    done = go_back(catalog, by=by, author=by.name)
    return Returned(run=str(done.pointer["run"]), before=done.before, skipped=list(done.skipped))


def _work_row(working: Working) -> WorkRow:
    return WorkRow.model_validate(finite({name: getattr(working, name) for name in WorkRow.model_fields}))
