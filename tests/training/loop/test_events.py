"""TensorBoard events in a run's folder."""

from pathlib import Path

import pytest
from support.learned import make_features, planned, recipe
from tensorboardX.proto.event_pb2 import Event

from curation import Catalog
from training import train
from training.loop.events import Events


def events_of(folder: Path) -> list[Event]:
    """The events of a folder's files, by TensorBoard's framing of records: length, checksum, data, checksum."""
    found = []
    for path in sorted(folder.iterdir(), key=lambda path: path.stat().st_mtime_ns):
        data, at = path.read_bytes(), 0
        while at < len(data):
            size = int.from_bytes(data[at : at + 8], "little")
            found.append(Event.FromString(data[at + 12 : at + 12 + size]))
            at += size + 16
    return found


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    return make_features(tmp_path_factory.mktemp("events"))


def test_a_training_writes_its_curve_and_states(catalog: Catalog) -> None:
    told = []
    made = recipe(tree="shared", stopping={"every": 4, "patience": 1}, balance="gradient_norm")
    run = train(
        made, planned(catalog, draws=320), catalog, states=lambda draws, states: told.append((draws, dict(states)))
    )
    events = events_of(catalog.home / "runs" / run.id / "events")
    found = {(event.step, part.tag): part.simple_value for event in events for part in event.summary.value}
    last = run.curve[-1]
    names = [row for row in last if row != "Draws"]
    assert [found[int(last["Draws"]), f"loss/{name}"] for name in names] == pytest.approx([last[n] for n in names])
    assert {tag.partition("/")[0] for _, tag in found} == {"loss", "validation", "state", "gradient"}
    assert [draws for draws, _ in told] == sorted({row["Draws"] for row in run.states})
    assert told[-1][1] == {row["task"]: row["state"] for row in run.states if row["Draws"] == told[-1][0]}


def test_what_is_done_again_replaces_what_follows(tmp_path: Path) -> None:
    for start in (0, 64):
        events = Events(tmp_path, start)
        events.add(start + 64, "loss", {"car": 0.5})
        events.close()
    found = events_of(tmp_path)
    assert [event.step for event in found if event.HasField("session_log")] == [0, 64]
    assert len(list(tmp_path.iterdir())) == 2
