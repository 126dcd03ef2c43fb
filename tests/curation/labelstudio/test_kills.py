"""Kill push and pull at random moments: after a rerun each item and each label exists once."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.homes import make_home
from support.processes import ending
from support.studio import Studio, installed

from benchmarks.annotators import Scripted
from curation.catalog.catalog import Catalog
from curation.labelstudio.local_server import start, stop
from curation.labelstudio.pull import pull
from curation.labelstudio.push import Asking, push
from curation.labelstudio.session import open_session
from curation.requests.proposals import Proposal, propose

REQUESTS = 24
CALL = """
import sys
from curation.labelstudio import push
from curation.labelstudio.pull import pull
from curation.labelstudio.client import LabelStudioClient
from curation.catalog.catalog import Catalog
push.CHUNK = 5
verb, home, url, token = sys.argv[1:]
catalog = Catalog.open(home)
print("ready", flush=True)
with LabelStudioClient(url, token, name="local", patience=0.2) as server:
    if verb == "push":
        push.push(catalog, server, push.Asking(), url_for=lambda sample: "http://127.0.0.1:1/x")
    else:
        pull(catalog, server)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of a server of these tests alone, because they kill it."""
    folder = tmp_path_factory.mktemp("killed")
    with installed():
        yield folder
        stop(folder)


def interrupted(verb: str, catalog: Catalog, folder: Path, after: float, *, ours: bool) -> None:
    """Start a verb; kill it, or the server, `after` seconds."""
    local = start(folder)
    words = [sys.executable, "-c", CALL, verb, str(catalog.home), local.url, local.token]
    with ending(subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)) as process:
        assert process.stdout.readline() == b"ready\n"
        time.sleep(after)
        os.kill(process.pid if ours else local.pid, signal.SIGKILL)
        process.wait(60)


def killed_anywhere(folder: Path, tmp_path: Path, seed: int) -> None:
    chance, ours = random.Random(seed), seed % 2 == 0
    catalog = make_home(tmp_path, samples=60, seed=seed)
    propose(catalog, Proposal(budget=REQUESTS, seed=seed), author="ada", batch="ask")
    interrupted("push", catalog, folder, chance.uniform(0, 0.8), ours=ours)
    studio = Studio(start(folder))
    with studio.server(name="local") as server:
        push(catalog, server, Asking(), url_for=lambda sample: "http://127.0.0.1:1/x")
        with open_session(catalog, server) as session:
            session.refresh()
            asked = [request for item in session.cache.items() for request in item.requests.values()]
            projects = {item.project for item in session.cache.items()}
        assert sorted(asked) == list(range(REQUESTS))
    with catalog.read() as now:
        tasks = now.tasks()
    truth = {name: task.classes[0] if task.classes else 3.0 for name, task in tasks.items()}
    person = studio.person(f"person{seed}")
    for project in projects:
        person.work(project, Scripted(tasks, lambda key, task: truth[task], error=0))
    person.api.close()
    interrupted("pull", catalog, folder, chance.uniform(0, 0.5), ours=ours)
    with Studio(start(folder)).server(name="local") as server:
        pull(catalog, server)
        assert pull(catalog, server).labels == 0
    with catalog.read() as now:
        labels = [
            row for name in tasks for row in now.labels.by_annotator(name).to_pylist() if row["source"] == "human"
        ]
        assert (len(labels), len(now.requests.answers()), now.counts()["answer_event"]) == (REQUESTS,) * 3
        assert set(now.requests()["state"].to_pylist()) == {"answered"}


@pytest.mark.parametrize("seed", range(5))
def test_a_kill_loses_and_doubles_nothing(folder: Path, tmp_path: Path, seed: int) -> None:
    killed_anywhere(folder, tmp_path, seed)


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(5, 35))
def test_thirty_kills_lose_and_double_nothing(folder: Path, tmp_path: Path, seed: int) -> None:
    killed_anywhere(folder, tmp_path, seed)
