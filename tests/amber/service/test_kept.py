"""Pages that are kept for a moment: what each reader sees, and when it is made again."""

import asyncio
import re
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from support.homes import make_home
from support.visitors import Visitor, Visitors, form_word

from amber.service import kept
from amber.service.kept import Turn
from amber.service.pages import rendering
from amber.service.pages.rendering import Rendered
from amber.service.tokens import Tokens
from curation.catalog.catalog import Catalog

LISTS = [*kept.BY_SCOPE, *kept.BY_TOKEN]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    return make_home(tmp_path_factory.mktemp("kept"), samples=20)


@pytest.fixture
def visitors(home: Catalog) -> Iterator[Visitors]:
    with Visitors(home.home) as visitors:
        yield visitors


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every page that is rendered; kept ones are shown for a minute while the catalog stays as it is."""
    found: list[str] = []

    def of(text: str) -> Rendered:
        found.append(text)
        return Rendered(pieces=tuple(rendering.SLOT.split(text)))

    monkeypatch.setattr(Rendered, "of", of)
    monkeypatch.setattr(kept, "FRESH", 60.0)
    return found


def declare(catalog: Catalog, name: str) -> int:
    """Declare a slice, as another process would; returns the commit."""
    with catalog.commit(author="eve", message=f"declare {name}") as change:
        change.add_slice(name, "attr.key <> ''")
    with catalog.read() as now:
        return now.commit


def as_of(page: httpx.Response) -> int:
    """The commit that a page says it is of."""
    found = re.search(r"As of commit (\d+)\.</footer>", page.text)
    assert found, page.text
    return int(found[1])


def once_of(page: httpx.Response) -> str:
    found = re.search(r'name="once" value="([^"]+)"', page.text)
    assert found, page.text
    return found[1]


def test_many_readers_cost_one_page_and_each_has_words_of_their_own(visitors: Visitors, made: list[str]) -> None:
    readers = [visitors.of(f"one {number}", "label") for number in range(12)]
    made.clear()
    together = threading.Barrier(len(readers))

    def read(client: Visitor) -> httpx.Response:
        together.wait()
        return client.client.get("/slices")

    with ThreadPoolExecutor(len(readers)) as pool:
        pages = list(pool.map(read, readers))
    assert len(made) == 1
    assert len({form_word(page.text) for page in pages}) == len({once_of(page) for page in pages}) == len(readers)
    for number, (client, page) in enumerate(zip(readers, pages, strict=True)):
        assert f"<span>one {number} <small" in page.text
        typed = {"name": f"of_{number}", "predicate": "attr.key <> ''"}
        assert client.send("/slices", page, **typed).status_code == 303


@pytest.mark.parametrize("path", LISTS)
def test_a_kept_page_is_the_one_that_would_be_made(visitors: Visitors, made: list[str], path: str) -> None:
    ada, bob, eve = visitors.of(f"ada {path}", "label"), visitors.of(f"bob {path}", "label"), visitors.of(path, "read")
    while "load delay" in ada.client.get(path).text:  # until everything is counted
        ada.send("/requests", "/requests", budget="none")
        time.sleep(0.1)
    ada.send("/requests", "/requests", budget="none")  # refused, and what is kept is dropped
    made.clear()
    first = ada.client.get(path).text
    shown = bob.client.get(path).text
    shared = len(made) == 1
    ada.send("/requests", "/requests", budget="none")
    again = bob.client.get(path).text
    assert shared == (path in kept.BY_SCOPE)
    assert _plain(shown) == _plain(again)
    assert f"ada {path}" not in shown
    assert form_word(first) != form_word(shown)
    made.clear()
    eve.client.get(path)
    assert len(made) == 1  # of another scope


def _plain(page: str) -> str:
    """A page without the words that differ each time it is shown."""
    return re.sub(r'(form_word|once)" value="[^"]*"|X-Form-Word": "[^"]*"|just now|\d+ (second|minute)s? ago', "", page)


def test_own_changes_are_seen_at_once_while_others_commit(home: Catalog, visitors: Visitors) -> None:
    ada, bob = visitors.of("ada at once", "label"), visitors.of("bob at once", "label")
    for number in range(6):
        declare(home, f"other_{number}")
        ada.client.get("/slices")
        bob.client.get("/slices")
        name = f"mine_{number}"
        if number % 2:
            assert ada.send("/slices", "/slices", name=name, predicate="attr.key <> ''").status_code == 303
        else:
            wanted = {"name": name, "predicate": "attr.key <> ''", "batch": name}
            assert ada.client.post("/api/slices", json=wanted).status_code == 200
        for client in (ada, bob):
            assert f'href="/slices/{name}"' in client.client.get("/slices").text


def test_a_commit_elsewhere_is_seen_at_once_and_many_within_seconds(
    home: Catalog, visitors: Visitors, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept, "LONGEST", 2.0)
    ada = visitors.of("ada elsewhere", "read")
    ada.client.get("/log")
    time.sleep(2 * kept.LONGEST)
    ada.client.get("/log")
    assert as_of(ada.client.get("/log")) == declare(home, "once") - 1
    assert as_of(ada.client.get("/log")) == declare(home, "twice") - 1
    over = time.monotonic() + 3.0
    landed: list[tuple[float, int]] = []
    newest = 0
    while time.monotonic() < over:
        landed.append((time.monotonic(), declare(home, f"many_{len(landed)}")))
        asked = time.monotonic()
        page = ada.client.get("/log")
        commit = as_of(page)
        rows = re.findall(r'<th scope="row"><a href="/log/(\d+)">', page.text)
        assert int(rows[0]) == commit  # the page is of one commit
        assert commit >= newest
        newest = commit
        assert commit >= max((each for at, each in landed if at < asked - kept.LONGEST), default=0)
    declared = declare(home, "last")
    time.sleep(kept.LONGEST)
    assert as_of(ada.client.get("/log")) == declared


def test_an_ended_token_sees_no_kept_page(home: Catalog, visitors: Visitors) -> None:
    ada = visitors.of("ada ends", "read")
    assert ada.client.get("/tasks").status_code == 200
    Tokens(home.home).remove("ada ends")
    assert "/sign-in" in ada.client.get("/tasks").text


def test_after_a_commit_a_page_is_shown_again_only_where_it_was_made_a_moment_ago(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(kept, "FRESH", 60.0)
    assert kept.shown(time.monotonic(), float("-inf"), 0.0, same=True)
    assert not kept.shown(time.monotonic(), float("-inf"), 9.0, same=False)
    assert kept.shown(time.monotonic(), time.monotonic(), 9.0, same=False)


def test_lists_are_made_one_after_the_other(visitors: Visitors, monkeypatch: pytest.MonkeyPatch) -> None:
    """So a commit waits for one of them at most."""
    ada, going, most = visitors.of("ada in turn", "label"), list[str](), list[int]()

    def of(text: str) -> Rendered:
        going.append(text)
        most.append(len(going))
        time.sleep(0.05)
        going.remove(text)
        return Rendered(pieces=tuple(rendering.SLOT.split(text)))

    monkeypatch.setattr(Rendered, "of", of)
    monkeypatch.setattr(kept, "TURN", 60.0)
    ada.send("/requests", "/requests", budget="none")
    most.clear()
    with ThreadPoolExecutor(len(LISTS)) as pool:
        assert {page.status_code for page in pool.map(ada.client.get, LISTS)} == {200}
    assert most == [1] * len(LISTS)


def test_nobody_waits_long_for_a_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "TURN", 0.05)

    async def tried() -> None:
        turns = asyncio.Lock()
        async with Turn(turns):
            async with asyncio.timeout(5), Turn(turns):
                assert turns.locked()
            assert turns.locked()  # who had no turn ends none
        assert not turns.locked()

    asyncio.run(tried())


def test_a_reader_who_does_not_read_keeps_no_turn() -> None:
    async def tried() -> None:
        turns, sent = asyncio.Lock(), asyncio.Event()

        async def never(message: str) -> None:
            sent.set()
            await asyncio.Event().wait()

        async def slow() -> None:
            turn = Turn(turns)
            async with turn:
                await turn.ending(never)("start")

        reader = asyncio.create_task(slow())
        await sent.wait()
        async with asyncio.timeout(5), Turn(turns):
            reader.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reader
        assert not turns.locked()  # each turn ended once
        with pytest.raises(ZeroDivisionError):
            async with Turn(turns):
                raise ZeroDivisionError
        assert not turns.locked()

    asyncio.run(tried())
