"""`amber pack --to URL`: copies of packs on object storage."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support.buckets import serving_bucket
from support.lamps import ingested
from support.pictures import SIZE, Draws

from amber.cli import run
from curation.files import remote_files
from samplers.pack.pack import Pack
from samplers.pack.pack_writer import complete_packs
from samplers.streaming.stream import stream

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:werkzeug", "ignore::DeprecationWarning:botocore")


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    with serving_bucket("packs") as url:
        yield url


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(ingested(tmp_path_factory.mktemp("to")))


def test_a_pack_is_made_and_copied(home: str, bucket: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["pack", "--to", f"{bucket}/team", "--verify", "--home", home]) == 0
    output = capsys.readouterr()
    assert f"shards, and at {bucket}/team" in output.out
    assert "  copy             1" in output.err
    (here,) = complete_packs(Path(home))
    there = Pack.open(f"{bucket}/team", here.hash)
    there.verify()
    draws = np.arange(here.images)
    near, far = ([batch.images.tobytes() for batch in stream(Draws(pack, draws), pack, 8, size=SIZE)]
                 for pack in (here, there))  # fmt: skip
    assert near == far


def test_parts_are_finished_and_copied(home: str, bucket: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["pack", "--part", "1/1", "--home", home]) == 0
    capsys.readouterr()
    assert run(["pack", "--finish", "--to", f"{bucket}/parts/", "--home", home, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert Pack.open(report["url"], report["pack"]).images == report["images"] == 80


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--to", "packs/team"], "--to 'packs/team': must be a URL as in s3://BUCKET/PREFIX; correct it"),
        (["--to", "nowhere://team"], "nowhere://team: not a URL that can be opened"),
        (["--to", "s3://team", "--part", "1/2"], "--part and --to: a part is not a pack yet; pass --to with --finish"),
    ],
)
def test_a_bad_url_is_refused_before_any_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    assert run(["pack", *options, "--home", str(ingested(tmp_path))]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "home" / "packs").exists()


def test_a_missing_bucket_is_reported(home: str, bucket: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["pack", "--to", f"{bucket}-of-nobody/team", "--home", home]) == 2
    assert f"{bucket}-of-nobody/team: there is no such bucket; make it" in capsys.readouterr().err


def test_an_unreachable_store_is_one_line(
    home: str, bucket: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote_files, "BACKOFF", replace(remote_files.BACKOFF, first=0.005))
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    assert run(["pack", "--to", f"{bucket}/team", "--home", home]) == 1
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "s3://" in line]
    assert "not reached in" in line
