"""A typed client of the service."""

from collections.abc import Iterable
from types import TracebackType
from typing import Any, TypeVar
from urllib.parse import quote

import httpx
import pyarrow as pa
from pydantic import BaseModel, TypeAdapter

from amber.service import models
from amber.service.models.ledger import (
    Asked,
    AskedFor,
    CoverageRow,
    Done,
    DoubtPicked,
    FigureRow,
    Given,
    GivenLabel,
    Health,
    LabelRow,
    PaceRow,
    QueueChanged,
    ReasonRow,
    RequestPicked,
    RequestRow,
    RequestsChosen,
    RunRow,
    SampleRow,
    Shown,
    ShownPicked,
    SignedOff,
    SignOff,
    SliceRow,
    TagPicked,
    TaskRow,
)
from curation.errors import BadInput, Busy, Failed, NotFound

__all__ = ["Client", "Page"]

Row = TypeVar("Row", bound=BaseModel)
Item = TypeVar("Item")


class Page(list[Item]):
    """Rows of one page; `next` is the cursor of the next page, "" after the last one.

    All pages that follow one first page are of the same commit. A page may be short, or empty, before the last one.
    """

    def __init__(self, rows: Iterable[Item], *, next: str) -> None:
        super().__init__(rows)
        self.next = next


class Client:
    """A connection to the service at `url` with a `token`. It raises the errors of `curation.errors`.

    with Client("http://127.0.0.1:8460", secret) as client:
        first = client.samples(limit=1)[0]
        thumbnail = client.image(first, size=128)
    """

    def __init__(self, url: str, token: str, *, http: httpx.Client | None = None) -> None:
        self._http = http or httpx.Client(base_url=url, timeout=60)
        self._headers = {"Authorization": f"Bearer {token}"}

    def __enter__(self) -> "Client":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()

    def health(self) -> Health:
        """Whether the service is up."""
        return Health.model_validate(self._ask("GET", "/health"))

    def tasks(self) -> list[TaskRow]:
        """All tasks."""
        return self._rows(TaskRow, "/api/tasks")

    def samples(self, *, limit: int = 100, after: str = "", slice: str = "") -> Page[SampleRow]:
        """A page of samples, in the order in which they were added, after the page whose `next` is `after`."""
        return self._page(SampleRow, "/api/samples", limit=limit, after=after, slice=slice)

    def sample(self, key: str) -> SampleRow:
        """One sample; NotFound when the key is unknown."""
        return SampleRow.model_validate(self._ask("GET", f"/api/samples/{quote(key)}"))

    def image(self, sample: SampleRow, *, size: int = 0) -> bytes:
        """The file of a sample's image, or a JPEG thumbnail with a longer side of `size` (64, 128, 256, 512) pixels."""
        return self._sent("GET", sample.image, {"size": size} if size else None).content

    def labels(self, task: str, *, limit: int = 100, after: str = "") -> Page[LabelRow]:
        """A page of a task's current labels, after the page whose `next` is `after`."""
        return self._page(LabelRow, f"/api/labels/{quote(task, safe='')}", limit=limit, after=after)

    def standing(self) -> models.standing.Standing:
        """Where the loop stands, as last counted."""
        return models.standing.Standing.model_validate(self._ask("GET", "/api/standing"))

    def task_standing(self, task: str) -> models.standing.TaskStanding:
        """Where one task stands, as last counted; NotFound for an unknown task."""
        return models.standing.TaskStanding.model_validate(self._ask("GET", f"/api/standing/{quote(task, safe='')}"))

    def trends(self, task: str = "") -> list[models.standing.TrendRow]:
        """Figures of test over the newest runs, as last counted."""
        return self._rows(models.standing.TrendRow, "/api/trends", task=task)

    def coverage(self) -> list[CoverageRow]:
        """Counts of known, unsure, inapplicable and unknown labels by task, slice and split."""
        return self._rows(CoverageRow, "/api/coverage")

    def slices(self) -> list[SliceRow]:
        """Declared slices."""
        return self._rows(SliceRow, "/api/slices")

    def slice_summaries(self) -> list[models.slices.SliceSummary]:
        """Slices with their sizes and newest figures; null while these are being counted."""
        return self._rows(models.slices.SliceSummary, "/api/slice-summaries")

    def slice(self, name: str) -> models.slices.SliceFacts:
        """One slice with its declarations and figures; NotFound when there is none."""
        return models.slices.SliceFacts.model_validate(self._ask("GET", f"/api/slices/{quote(name, safe='')}"))

    def slice_sizes(self, name: str, *, run: str = "") -> list[models.slices.SliceSize]:
        """How many samples a slice held after some of the commits, the oldest first."""
        return self._rows(models.slices.SliceSize, f"/api/slices/{quote(name, safe='')}/sizes", run=run)

    def slice_elsewhere(self, name: str, *, run: str = "") -> models.slices.Elsewhere:
        """Where else a slice can be looked at: the FiftyOne App, and its open items in Label Studio."""
        return models.slices.Elsewhere.model_validate(
            self._ask("GET", f"/api/slices/{quote(name, safe='')}/elsewhere", {"run": run})
        )

    def pictures(
        self, slice: str, *, run: str = "", task: str = "", split: str = "", state: str = "", predicted: str = "",
        wrong: bool = False, limit: int = 100, after: str = "",
    ) -> Page[models.slices.PictureRow]:  # fmt: skip
        """A page of images of a slice with the labels of a task and the predictions of a run (default: the newest)."""
        return self._page(
            models.slices.PictureRow, f"/api/slices/{quote(slice, safe='')}/pictures", run=run, task=task, split=split,
            state=state, predicted=predicted, wrong=wrong or "", limit=limit, after=after,
        )  # fmt: skip

    def picture(self, key: str, *, runs: Iterable[str] = ()) -> models.slices.PictureFacts:
        """Everything that is known of one image; NotFound when it is unknown or was forgotten."""
        return models.slices.PictureFacts.model_validate(
            self._ask("GET", f"/api/pictures/{quote(key)}", {"run": list(runs)})
        )

    def preview_slice(self, predicate: str, *, task: str = "", run: str = "") -> models.slices.SlicePreview:
        """What a predicate would hold as a slice; BadInput says which part of it fails."""
        asked = {"predicate": predicate, "task": task, "run": run}
        return models.slices.SlicePreview.model_validate(self._ask("GET", "/api/slice-preview", asked))

    def declare_slice(self, wanted: models.slices.NewSlice) -> SliceRow:
        """Declare a slice; needs a token of the scope label, owner or admin."""
        return SliceRow.model_validate(self._ask("POST", "/api/slices", body=wanted))

    def plans(self) -> list[str]:
        """Hashes of the plans."""
        return [str(plan) for plan in self._ask("GET", "/api/plans")]

    def plan_list(self) -> list[models.plans.PlanRow]:
        """The plans, the newest first: when and by whom each was made, and of what."""
        return self._rows(models.plans.PlanRow, "/api/plan-list")

    def plan(self, plan: str, *, against: str = "") -> models.plans.PlanFacts:
        """What each task gets from a plan, and what fell against another one (default: the plan before)."""
        path = f"/api/plans/{quote(plan, safe='')}"
        return models.plans.PlanFacts.model_validate(self._ask("GET", path, {"against": against} if against else None))

    def accounts(self) -> list[models.plans.AccountLine]:
        """Tasks that fell under a plan or a run of somebody else."""
        return self._rows(models.plans.AccountLine, "/api/accounts")

    def policy(self) -> models.plans.PolicyFacts:
        """The policy in force, as TOML."""
        return models.plans.PolicyFacts.model_validate(self._ask("GET", "/api/policy"))

    def check_policy(self, text: str) -> models.plans.PolicyChecked:
        """Whether a text is a policy, and who gains and who pays by it."""
        return models.plans.PolicyChecked.model_validate(
            self._ask("POST", "/api/policy/check", body=models.plans.PolicyWish(text=text))
        )

    def put_policy(self, asked: models.plans.PolicyAsked) -> models.plans.PolicySaved:
        """Put a policy in force over the one that was read; needs a token of the scope owner."""
        return models.plans.PolicySaved.model_validate(self._ask("POST", "/api/policy", body=asked))

    def runs(self) -> list[RunRow]:
        """All registered runs, oldest first."""
        return self._all(RunRow, "/api/runs")

    def figures(self, run: str) -> list[FigureRow]:
        """All figures of a run by task, slice and split; NotFound when the run is unknown."""
        return self._all(FigureRow, f"/api/runs/{quote(run, safe='')}/figures")

    def run_entries(self) -> list[models.runs.RunEntryRow]:
        """All runs as `amber runs` lists them, newest first."""
        return self._all(models.runs.RunEntryRow, "/api/run-entries")

    def run(self, run: str) -> models.runs.RunEntryRow:
        """One run; NotFound when it is unknown, or when several begin so."""
        return models.runs.RunEntryRow.model_validate(self._ask("GET", f"/api/runs/{quote(run, safe='')}"))

    def live_runs(self) -> list[models.runs.LiveRow]:
        """Trainings that go on, or ended without a run."""
        return self._rows(models.runs.LiveRow, "/api/live-runs")

    def lineage(self, run: str) -> models.runs.LineageRow:
        """The runs and plans that led to a run."""
        return models.runs.LineageRow.model_validate(self._ask("GET", f"/api/runs/{quote(run, safe='')}/lineage"))

    def report(self, run: str) -> bytes:
        """The report of a run as one HTML file; Busy while it is being made."""
        return self._sent("GET", f"/api/runs/{quote(run, safe='')}/report").content

    def comparison(self, second: str = "", first: str = "", *, split: str = "test") -> models.runs.ComparisonRow:
        """Two runs beside each other, by default the newest and the run before it; Busy while this is computed."""
        asked = {"first": first, "second": second, "split": split}
        return models.runs.ComparisonRow.model_validate(self._ask("GET", "/api/comparison", asked))

    def gate(self, asked: models.runs.GateAsked) -> models.runs.GateRow:
        """Decide by rules whether a run may replace another one; needs a token of the scope label, owner or admin."""
        return models.runs.GateRow.model_validate(self._ask("POST", "/api/gates", body=asked))

    def releases(self) -> models.runs.ReleasesRow:
        """All releases, the deployed run, and the release that goes on."""
        return models.runs.ReleasesRow.model_validate(self._ask("GET", "/api/releases"))

    def release(self, asked: models.runs.ReleaseAsked) -> models.runs.WorkRow:
        """Begin to release a run; needs a token of the scope admin. `releases` says how far it is."""
        return models.runs.WorkRow.model_validate(self._ask("POST", "/api/releases", body=asked))

    def sign_release(self, signed: models.runs.ReleaseSigned) -> models.runs.SignedRelease:
        """Accept a release for an owner; needs a token that is a member of it."""
        return models.runs.SignedRelease.model_validate(self._ask("POST", "/api/releases/signed", body=signed))

    def go_back(self, deployed: str) -> models.runs.Returned:
        """Deploy the release before `deployed` again; needs a token of the scope admin."""
        return models.runs.Returned.model_validate(
            self._ask("POST", "/api/releases/back", body=models.runs.ReturnAsked(deployed=deployed))
        )

    def commits(
        self, *, author: str = "", task: str = "", slice: str = "", limit: int = 100, after: str = ""
    ) -> Page[models.log.CommitRow]:
        """A page of commits, newest first, after the page whose `next` is `after`."""
        return self._page(
            models.log.CommitRow, "/api/commits", author=author, task=task, slice=slice, limit=limit, after=after
        )

    def commit(self, commit: int) -> models.log.CommitRow:
        """One commit."""
        return models.log.CommitRow.model_validate(self._ask("GET", f"/api/commits/{commit}"))

    def changes(self, commit: int) -> models.log.ChangesRow:
        """What a commit changed; Busy while this is computed."""
        return models.log.ChangesRow.model_validate(self._ask("GET", f"/api/commits/{commit}/changes"))

    def revert(self, commit: int, *, batch: str, preview: bool = False) -> models.log.Reverted:
        """Undo a commit, or with `preview` say what that would undo; needs a token of the scope admin."""
        asked = models.log.RevertAsked(batch=batch, preview=preview)
        return models.log.Reverted.model_validate(self._ask("POST", f"/api/commits/{commit}/revert", body=asked))

    def requests(
        self, *, state: str = "open", task: str = "", slice: str = "", arm: str = "", limit: int = 100, after: str = ""
    ) -> Page[RequestRow]:
        """A page of label requests in a state, the most urgent first, after the page whose `next` is `after`; only
        those of a task, a slice and an arm where these are given."""
        chosen = {"task": task, "slice": slice, "arm": arm}
        return self._page(RequestRow, "/api/requests", state=state, limit=limit, after=after, **chosen)

    def pace(self) -> list[PaceRow]:
        """The requests of each task by state, and how fast they are answered."""
        return self._rows(PaceRow, "/api/requests/pace")

    def withdraw(self, chosen: RequestsChosen) -> QueueChanged:
        """Withdraw requests that were not answered; needs a token of the scope label, owner or admin."""
        return QueueChanged.model_validate(self._ask("POST", "/api/requests/withdrawn", body=chosen))

    def put_first(self, chosen: RequestsChosen) -> QueueChanged:
        """Put open requests before all others; needs a token of the scope label, owner or admin."""
        return QueueChanged.model_validate(self._ask("POST", "/api/requests/raised", body=chosen))

    def ask(self, asked: AskedFor) -> Asked:
        """Request labels; needs a token of the scope label."""
        return Asked.model_validate(self._ask("POST", "/api/requests", body=asked))

    def give(self, labels: list[GivenLabel], *, batch: str, annotator: str = "") -> Asked:
        """Give labels as the token's owner; needs a token of the scope label.

        With a token of the scope admin, `annotator` may name another person.
        """
        given = Given(annotator=annotator, batch=batch, labels=labels)
        return Asked.model_validate(self._ask("POST", "/api/labels", body=given))

    def pick(self, wish: RequestPicked | TagPicked | DoubtPicked) -> Done:
        """Request labels of picked samples, tag them or mark doubts; needs a token of the scope label."""
        paths = {RequestPicked: "requests", TagPicked: "tags", DoubtPicked: "doubts"}
        return Done.model_validate(self._ask("POST", f"/api/picked/{paths[type(wish)]}", body=wish))

    def sign_off(self, signed: SignOff) -> SignedOff:
        """Sign a plan off for an owner, as a member of it; needs a token of the scope label or admin."""
        return SignedOff.model_validate(self._ask("POST", "/api/sign-offs", body=signed))

    def waiting(self) -> list[models.plans.WaitingRow]:
        """What waits for the sign-off of an owner."""
        return self._rows(models.plans.WaitingRow, "/api/sign-offs")

    def signed(self) -> list[models.plans.SignedRow]:
        """Recorded sign-offs, the newest first."""
        return self._rows(models.plans.SignedRow, "/api/signed")

    def people(self) -> list[models.people.PersonRow]:
        """Each person's work and items."""
        return self._rows(models.people.PersonRow, "/api/people")

    def weeks(self) -> list[models.people.WeekRow]:
        """Each person's work by week."""
        return self._rows(models.people.WeekRow, "/api/people/weeks")

    def disputes(self) -> list[models.people.DisputeRow]:
        """Labels on which people disagree so that none holds."""
        return self._rows(models.people.DisputeRow, "/api/disputes")

    def assign(self, wish: models.people.AssignedTo) -> models.people.Assigned:
        """Give the items of a task to a person; needs a token of the scope admin, or of a lead."""
        return models.people.Assigned.model_validate(self._ask("POST", "/api/assignments", body=wish))

    def settle(self, wish: models.people.Settlement) -> models.people.Settled:
        """Settle a dispute; needs a token of the scope admin, or of a lead."""
        return models.people.Settled.model_validate(self._ask("POST", "/api/settlements", body=wish))

    def shown(self, asked: ShownPicked) -> Shown:
        """The fields that the App shows of picked samples."""
        return Shown.model_validate(self._ask("POST", "/api/picked/shown", body=asked))

    def why(self, key: str, *, plan: str = "") -> list[ReasonRow]:
        """Why a plan (default: the newest) draws a sample; NotFound when it does not draw it."""
        return self._rows(ReasonRow, f"/api/why/{quote(key)}", plan=plan)

    def metrics(self) -> str:
        """Metrics for Prometheus; needs a token of the scope admin."""
        return self._sent("GET", "/metrics").text

    def page(self, path: str, **asked: Any) -> Page[Any]:
        """A page of the list at `path`, as plain objects."""
        return self._page(dict, path, **asked)

    def table(self, path: str, **asked: Any) -> pa.Table:
        """The list at `path`, or one page of it, as Arrow."""
        return pa.ipc.open_stream(self._sent("GET", path, {**asked, "format": "arrow"}).content).read_all()

    def _page(self, row: type[Item], path: str, **asked: Any) -> Page[Item]:
        answer = self._sent("GET", path, {name: value for name, value in asked.items() if value != ""})
        link = answer.links.get("next", {}).get("url", "")
        rows = TypeAdapter(list[row]).validate_python(answer.json())  # type: ignore[valid-type]
        return Page(rows, next=httpx.URL(link).params.get("after", ""))

    def _all(self, row: type[Row], path: str) -> list[Row]:
        """The rows of all pages."""
        page = self._page(row, path, limit=1_000)
        rows = list(page)
        while page.next:
            page = self._page(row, path, limit=1_000, after=page.next)
            rows += page
        return rows

    def _rows(self, row: type[Row], path: str, **asked: Any) -> list[Row]:
        return TypeAdapter(list[row]).validate_python(self._ask("GET", path, asked))  # type: ignore[valid-type]

    def _ask(self, method: str, path: str, asked: dict[str, Any] | None = None, body: BaseModel | None = None) -> Any:
        return self._sent(method, path, asked, body).json()

    def _sent(
        self, method: str, path: str, asked: dict[str, Any] | None = None, body: BaseModel | None = None
    ) -> httpx.Response:
        content = body.model_dump_json() if body else None
        headers = {**self._headers, "Content-Type": "application/json"}
        try:
            answer = self._http.request(method, path, params=asked, content=content, headers=headers)
        except httpx.TransportError as error:
            raise Failed(f"{path}: the service cannot be reached ({error}); start it with `amber serve`") from error
        if answer.status_code < 400:
            return answer
        try:
            detail = str(answer.json()["detail"])
        except (ValueError, KeyError, TypeError):
            detail = answer.text or answer.reason_phrase
        kinds = {404: NotFound, 503: Busy}
        raise kinds.get(answer.status_code, BadInput if answer.status_code < 500 else Failed)(detail)
