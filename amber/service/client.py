"""A typed client of the service."""

from collections.abc import Iterable
from types import TracebackType
from typing import Any, TypeVar
from urllib.parse import quote

import httpx
import pyarrow as pa
from pydantic import BaseModel, TypeAdapter

from amber.service import log_models, people_models, plan_models, run_models, slice_models, standing_models
from amber.service.models import (
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

    def standing(self) -> standing_models.Standing:
        """Where the loop stands, as last counted."""
        return standing_models.Standing.model_validate(self._ask("GET", "/api/standing"))

    def task_standing(self, task: str) -> standing_models.TaskStanding:
        """Where one task stands, as last counted; NotFound for an unknown task."""
        return standing_models.TaskStanding.model_validate(self._ask("GET", f"/api/standing/{quote(task, safe='')}"))

    def trends(self, task: str = "") -> list[standing_models.TrendRow]:
        """Figures of test over the newest runs, as last counted."""
        return self._rows(standing_models.TrendRow, "/api/trends", task=task)

    def coverage(self) -> list[CoverageRow]:
        """Counts of known, unsure, inapplicable and unknown labels by task, slice and split."""
        return self._rows(CoverageRow, "/api/coverage")

    def slices(self) -> list[SliceRow]:
        """Declared slices."""
        return self._rows(SliceRow, "/api/slices")

    def slice_summaries(self) -> list[slice_models.SliceSummary]:
        """Slices with their sizes and newest figures; null while these are being counted."""
        return self._rows(slice_models.SliceSummary, "/api/slice-summaries")

    def slice(self, name: str) -> slice_models.SliceFacts:
        """One slice with its declarations and figures; NotFound when there is none."""
        return slice_models.SliceFacts.model_validate(self._ask("GET", f"/api/slices/{quote(name, safe='')}"))

    def slice_sizes(self, name: str, *, run: str = "") -> list[slice_models.SliceSize]:
        """How many samples a slice held after some of the commits, the oldest first."""
        return self._rows(slice_models.SliceSize, f"/api/slices/{quote(name, safe='')}/sizes", run=run)

    def slice_elsewhere(self, name: str, *, run: str = "") -> slice_models.Elsewhere:
        """Where else a slice can be looked at: the FiftyOne App, and its open items in Label Studio."""
        return slice_models.Elsewhere.model_validate(
            self._ask("GET", f"/api/slices/{quote(name, safe='')}/elsewhere", {"run": run})
        )

    def pictures(
        self, slice: str, *, run: str = "", task: str = "", split: str = "", state: str = "", predicted: str = "",
        wrong: bool = False, limit: int = 100, after: str = "",
    ) -> Page[slice_models.PictureRow]:  # fmt: skip
        """A page of images of a slice with the labels of a task and the predictions of a run (default: the newest)."""
        return self._page(
            slice_models.PictureRow, f"/api/slices/{quote(slice, safe='')}/pictures", run=run, task=task, split=split,
            state=state, predicted=predicted, wrong=wrong or "", limit=limit, after=after,
        )  # fmt: skip

    def picture(self, key: str, *, runs: Iterable[str] = ()) -> slice_models.PictureFacts:
        """Everything that is known of one image; NotFound when it is unknown or was forgotten."""
        return slice_models.PictureFacts.model_validate(
            self._ask("GET", f"/api/pictures/{quote(key)}", {"run": list(runs)})
        )

    def preview_slice(self, predicate: str, *, task: str = "", run: str = "") -> slice_models.SlicePreview:
        """What a predicate would hold as a slice; BadInput says which part of it fails."""
        asked = {"predicate": predicate, "task": task, "run": run}
        return slice_models.SlicePreview.model_validate(self._ask("GET", "/api/slice-preview", asked))

    def declare_slice(self, wanted: slice_models.NewSlice) -> SliceRow:
        """Declare a slice; needs a token of the scope label, owner or admin."""
        return SliceRow.model_validate(self._ask("POST", "/api/slices", body=wanted))

    def plans(self) -> list[str]:
        """Hashes of the plans."""
        return [str(plan) for plan in self._ask("GET", "/api/plans")]

    def plan_list(self) -> list[plan_models.PlanRow]:
        """The plans, the newest first: when and by whom each was made, and of what."""
        return self._rows(plan_models.PlanRow, "/api/plan-list")

    def plan(self, plan: str, *, against: str = "") -> plan_models.PlanFacts:
        """What each task gets from a plan, and what fell against another one (default: the plan before)."""
        path = f"/api/plans/{quote(plan, safe='')}"
        return plan_models.PlanFacts.model_validate(self._ask("GET", path, {"against": against} if against else None))

    def accounts(self) -> list[plan_models.AccountLine]:
        """Tasks that fell under a plan or a run of somebody else."""
        return self._rows(plan_models.AccountLine, "/api/accounts")

    def policy(self) -> plan_models.PolicyFacts:
        """The policy in force, as TOML."""
        return plan_models.PolicyFacts.model_validate(self._ask("GET", "/api/policy"))

    def check_policy(self, text: str) -> plan_models.PolicyChecked:
        """Whether a text is a policy, and who gains and who pays by it."""
        return plan_models.PolicyChecked.model_validate(
            self._ask("POST", "/api/policy/check", body=plan_models.PolicyWish(text=text))
        )

    def put_policy(self, asked: plan_models.PolicyAsked) -> plan_models.PolicySaved:
        """Put a policy in force over the one that was read; needs a token of the scope owner."""
        return plan_models.PolicySaved.model_validate(self._ask("POST", "/api/policy", body=asked))

    def runs(self) -> list[RunRow]:
        """All registered runs, oldest first."""
        return self._all(RunRow, "/api/runs")

    def figures(self, run: str) -> list[FigureRow]:
        """All figures of a run by task, slice and split; NotFound when the run is unknown."""
        return self._all(FigureRow, f"/api/runs/{quote(run, safe='')}/figures")

    def run_entries(self) -> list[run_models.RunEntryRow]:
        """All runs as `amber runs` lists them, newest first."""
        return self._all(run_models.RunEntryRow, "/api/run-entries")

    def run(self, run: str) -> run_models.RunEntryRow:
        """One run; NotFound when it is unknown, or when several begin so."""
        return run_models.RunEntryRow.model_validate(self._ask("GET", f"/api/runs/{quote(run, safe='')}"))

    def live_runs(self) -> list[run_models.LiveRow]:
        """Trainings that go on, or ended without a run."""
        return self._rows(run_models.LiveRow, "/api/live-runs")

    def lineage(self, run: str) -> run_models.LineageRow:
        """The runs and plans that led to a run."""
        return run_models.LineageRow.model_validate(self._ask("GET", f"/api/runs/{quote(run, safe='')}/lineage"))

    def report(self, run: str) -> bytes:
        """The report of a run as one HTML file; Busy while it is being made."""
        return self._sent("GET", f"/api/runs/{quote(run, safe='')}/report").content

    def comparison(self, second: str = "", first: str = "", *, split: str = "test") -> run_models.ComparisonRow:
        """Two runs beside each other, by default the newest and the run before it; Busy while this is computed."""
        asked = {"first": first, "second": second, "split": split}
        return run_models.ComparisonRow.model_validate(self._ask("GET", "/api/comparison", asked))

    def gate(self, asked: run_models.GateAsked) -> run_models.GateRow:
        """Decide by rules whether a run may replace another one; needs a token of the scope label, owner or admin."""
        return run_models.GateRow.model_validate(self._ask("POST", "/api/gates", body=asked))

    def releases(self) -> run_models.ReleasesRow:
        """All releases, the deployed run, and the release that goes on."""
        return run_models.ReleasesRow.model_validate(self._ask("GET", "/api/releases"))

    def release(self, asked: run_models.ReleaseAsked) -> run_models.WorkRow:
        """Begin to release a run; needs a token of the scope admin. `releases` says how far it is."""
        return run_models.WorkRow.model_validate(self._ask("POST", "/api/releases", body=asked))

    def sign_release(self, signed: run_models.ReleaseSigned) -> run_models.SignedRelease:
        """Accept a release for an owner; needs a token that is a member of it."""
        return run_models.SignedRelease.model_validate(self._ask("POST", "/api/releases/signed", body=signed))

    def go_back(self, deployed: str) -> run_models.Returned:
        """Deploy the release before `deployed` again; needs a token of the scope admin."""
        return run_models.Returned.model_validate(
            self._ask("POST", "/api/releases/back", body=run_models.ReturnAsked(deployed=deployed))
        )

    def commits(
        self, *, author: str = "", task: str = "", slice: str = "", limit: int = 100, after: str = ""
    ) -> Page[log_models.CommitRow]:
        """A page of commits, newest first, after the page whose `next` is `after`."""
        return self._page(
            log_models.CommitRow, "/api/commits", author=author, task=task, slice=slice, limit=limit, after=after
        )

    def commit(self, commit: int) -> log_models.CommitRow:
        """One commit."""
        return log_models.CommitRow.model_validate(self._ask("GET", f"/api/commits/{commit}"))

    def changes(self, commit: int) -> log_models.ChangesRow:
        """What a commit changed; Busy while this is computed."""
        return log_models.ChangesRow.model_validate(self._ask("GET", f"/api/commits/{commit}/changes"))

    def revert(self, commit: int, *, batch: str, preview: bool = False) -> log_models.Reverted:
        """Undo a commit, or with `preview` say what that would undo; needs a token of the scope admin."""
        asked = log_models.RevertAsked(batch=batch, preview=preview)
        return log_models.Reverted.model_validate(self._ask("POST", f"/api/commits/{commit}/revert", body=asked))

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

    def waiting(self) -> list[plan_models.WaitingRow]:
        """What waits for the sign-off of an owner."""
        return self._rows(plan_models.WaitingRow, "/api/sign-offs")

    def signed(self) -> list[plan_models.SignedRow]:
        """Recorded sign-offs, the newest first."""
        return self._rows(plan_models.SignedRow, "/api/signed")

    def people(self) -> list[people_models.PersonRow]:
        """Each person's work and items."""
        return self._rows(people_models.PersonRow, "/api/people")

    def weeks(self) -> list[people_models.WeekRow]:
        """Each person's work by week."""
        return self._rows(people_models.WeekRow, "/api/people/weeks")

    def disputes(self) -> list[people_models.DisputeRow]:
        """Labels on which people disagree so that none holds."""
        return self._rows(people_models.DisputeRow, "/api/disputes")

    def assign(self, wish: people_models.AssignedTo) -> people_models.Assigned:
        """Give the items of a task to a person; needs a token of the scope admin, or of a lead."""
        return people_models.Assigned.model_validate(self._ask("POST", "/api/assignments", body=wish))

    def settle(self, wish: people_models.Settlement) -> people_models.Settled:
        """Settle a dispute; needs a token of the scope admin, or of a lead."""
        return people_models.Settled.model_validate(self._ask("POST", "/api/settlements", body=wish))

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
