"""A real Label Studio for the tests, and people who work through its API."""

import os
import random
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from curation.labeling.answers import suggest
from curation.labeling.forms import UNSURE, state_of
from curation.labeling.local import ENVIRONMENT, Local, start, stop
from curation.labeling.server import Server
from curation.tasks import Task

__all__ = ["Annotator", "Scripted", "Studio", "cannot_tell", "installed", "serving"]

ROOT = Path(__file__).parent.parent
Results = list[dict[str, Any]]


class Studio:
    """A running server."""

    def __init__(self, local: Local) -> None:
        self.local = local

    def server(self, **options: Any) -> Server:
        """A client with the owner's token."""
        return Server(self.local.url, self.local.token, **options)

    def admin(self) -> httpx.Client:
        """The bare API."""
        return httpx.Client(base_url=self.local.url, headers={"Authorization": f"Token {self.local.token}"}, timeout=60)

    def person(self, name: str) -> "Annotator":
        """An annotator who has signed up by invitation."""
        with self.admin() as admin:
            invitation = admin.get("/api/invite").json()["invite_url"]
        email = f"{name}@people.test"
        with httpx.Client(base_url=self.local.url, follow_redirects=True, timeout=60) as browser:
            page = browser.get(invitation)
            token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', page.text)[1]
            form = {"email": email, "password": "correct-horse-1", "csrfmiddlewaretoken": token}
            browser.post(page.url, data=form, headers={"Referer": str(page.url)}).raise_for_status()
            key = browser.get("/api/current-user/token").json()["token"]
        return Annotator(self.local.url, key, email)


@dataclass
class Annotator:
    """Somebody who takes the next item of a project and answers it, as the page does."""

    url: str
    token: str
    email: str
    done: list[tuple[int, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.api = httpx.Client(base_url=self.url, headers={"Authorization": f"Token {self.token}"}, timeout=60)

    def next(self, project: int) -> dict[str, Any] | None:
        """The next item of the queue, if there is one."""
        answer = self.api.get(f"/api/projects/{project}/next")
        return answer.json() if answer.status_code == 200 else None

    def say(self, item: int, results: Results | None, seconds: float = 2.0) -> int:
        """Submit an annotation, or skip where there are no results; its id."""
        body = {"result": results or [], "was_cancelled": results is None, "lead_time": seconds}
        answer = self.api.post(f"/api/tasks/{item}/annotations/", json=body)
        answer.raise_for_status()
        self.done.append((item, answer.json()["id"]))
        return int(answer.json()["id"])

    def change(self, annotation: int, results: Results) -> None:
        """Submit another answer in place of one."""
        self.api.patch(f"/api/annotations/{annotation}/", json={"result": results}).raise_for_status()

    def delete(self, annotation: int) -> None:
        """Take an answer away."""
        self.api.delete(f"/api/annotations/{annotation}/").raise_for_status()

    def work(self, project: int, answer: Callable[[dict[str, Any]], Results | None], most: int = 10_000) -> int:
        """Answer items until the queue is empty; how many."""
        for count in range(most):
            item = self.next(project)
            if item is None:
                return count
            self.say(item["id"], answer(item))
        return most


@dataclass
class Scripted:
    """What an annotator says who errs and cannot tell now and then: `truth` gives the value of (sample, task)."""

    tasks: dict[str, Task]
    truth: Callable[[str, str], Any]
    error: float = 0.05
    unsure: float = 0.1
    seed: int = 0

    def __call__(self, item: dict[str, Any]) -> Results:
        ours = item["meta"]["amber"]
        results: Results = []
        for name in [*ours["requests"], *ours["gold"]]:
            chance = random.Random(f"{self.seed} {ours['sample']} {name}")
            draw, task, value = chance.random(), self.tasks[name], self.truth(ours["sample"], name)
            if draw < self.unsure:
                results += cannot_tell(task)
                continue
            if draw < self.unsure + self.error:
                value = chance.choice([other for other in task.classes if other != value])
            results += suggest(task, value, (48, 32))
        return results


def cannot_tell(task: Task) -> Results:
    """The results of somebody who cannot tell."""
    name = state_of(task) if task.kind in ("regression", "detection") else task.name
    return [{"from_name": name, "to_name": "image", "type": "choices", "value": {"choices": [UNSURE]}}]


@contextmanager
def installed() -> Iterator[None]:
    """Where Label Studio is found, as long as the block lasts. Without it the tests are skipped, on CI they fail."""
    environment = Path(os.environ.get(ENVIRONMENT) or ROOT / ".venv-label-studio")
    if not (environment / "bin" / "label-studio").exists():
        missing = "Label Studio is not installed; `make .venv-label-studio/ready` brings it"
        pytest.fail(missing) if os.environ.get("CI") else pytest.skip(missing)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(ENVIRONMENT, str(environment))
        yield


@contextmanager
def serving(folder: Path) -> Iterator[Studio]:
    """A server on a free port."""
    with installed():
        try:
            yield Studio(start(folder))
        finally:
            stop(folder)
            shutil.rmtree(folder, ignore_errors=True)
