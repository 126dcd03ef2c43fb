"""Scripted annotators who use the API of a real Label Studio, for the benchmarks and the tests."""

import random
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx

from curation.catalog.catalog import Catalog
from curation.catalog.tasks import Task
from curation.labelstudio.annotations import encode_answer
from curation.labelstudio.client import LabelStudioClient
from curation.labelstudio.label_config import INAPPLICABLE, UNSURE, state_of
from curation.labelstudio.local_server import Local
from curation.labelstudio.session import marked, open_session

__all__ = ["PASSWORD", "Annotator", "Scripted", "cannot_tell", "invite", "working"]

PASSWORD = "correct-horse-1"
"""Of everybody who was invited."""

Results = list[dict[str, Any]]
Says = Callable[[dict[str, Any]], Results | None]


@dataclass
class Annotator:
    """An annotator who takes the next item of a project and submits an annotation, through the calls of the page."""

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
        """Submit an annotation, or skip the item if there are no results; returns its id."""
        body = {"result": results or [], "was_cancelled": results is None, "lead_time": seconds}
        answer = self.api.post(f"/api/tasks/{item}/annotations/", json=body)
        answer.raise_for_status()
        self.done.append((item, answer.json()["id"]))
        return int(answer.json()["id"])

    def change(self, annotation: int, results: Results) -> None:
        """Replace an annotation."""
        self.api.patch(f"/api/annotations/{annotation}/", json={"result": results}).raise_for_status()

    def delete(self, annotation: int) -> None:
        """Delete an annotation."""
        self.api.delete(f"/api/annotations/{annotation}/").raise_for_status()

    def work(self, project: int, answer: Says, most: int = 10_000) -> int:
        """Answer items until the queue is empty; returns how many."""
        for count in range(most):
            item = self.next(project)
            if item is None:
                return count
            self.say(item["id"], answer(item))
        return most


@dataclass
class Scripted:
    """Answers of an annotator who sometimes errs or skips; `truth` gives the value of (sample, task)."""

    tasks: dict[str, Task]
    truth: Callable[[str, str], Any]
    error: float = 0.05
    unsure: float = 0.1
    seed: int = 0
    size: tuple[int, int] = (48, 32)
    """Width and height of every image."""

    def __call__(self, item: dict[str, Any]) -> Results:
        """The results for an item."""
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
            results += encode_answer(task, value, self.size)
        return results


def cannot_tell(task: Task) -> Results:
    """The results of an annotator who cannot tell."""
    name = state_of(task) if task.kind in ("regression", "detection") else task.name
    return [{"from_name": name, "to_name": "image", "type": "choices", "value": {"choices": [UNSURE]}}]


def says_inapplicable(task: Task) -> Results:
    """The results of an annotator who says that the task does not apply."""
    return [{**result, "value": {"choices": [INAPPLICABLE]}} for result in cannot_tell(task)]


def invite(local: Local, name: str) -> Annotator:
    """An annotator who has signed up by invitation: users made through the API cannot log in."""
    owner = {"Authorization": f"Token {local.token}"}
    invitation = httpx.get(f"{local.url}/api/invite", headers=owner, timeout=60).json()["invite_url"]
    email = f"{name}@people.test"
    with httpx.Client(base_url=local.url, follow_redirects=True, timeout=60) as browser:
        page = browser.get(invitation)
        found = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', page.text)
        form = {"email": email, "password": PASSWORD, "csrfmiddlewaretoken": found[1] if found else ""}
        browser.post(page.url, data=form, headers={"Referer": str(page.url)}).raise_for_status()
        return Annotator(local.url, browser.get("/api/current-user/token").json()["token"], email)


@contextmanager
def working(catalog: Catalog, local: Local, says: Sequence[tuple[Annotator, Says]]) -> Iterator[None]:
    """Annotators who answer every item of a workspace's projects, in the background."""
    done = threading.Event()
    with LabelStudioClient(local.url, local.token) as server, open_session(catalog, server) as session:
        mark = marked(session.workspace, "")

    def work() -> None:
        with LabelStudioClient(local.url, local.token) as server:
            while not done.wait(0.5):
                for project in server.projects():
                    if mark in project["description"]:
                        for person, answer in says:
                            person.work(int(project["id"]), answer)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
