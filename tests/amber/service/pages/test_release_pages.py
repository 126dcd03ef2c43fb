"""Releases by the pages: in the background, one at a time, by leads; and the way back."""

import threading
import time
from pathlib import Path

import pytest
from support.chains import Chain
from support.chromium import Chromium
from support.homes import copy_home
from support.pages import choose, fill, press, send_form, sign_in, visit
from support.served import served
from support.shared_plans import EVE, set_members
from support.visitors import Visitors, alerts, form_word, forms, visiting

from amber import release as module
from amber.service.client import Client
from amber.service.models.runs import ReleaseAsked, ReleaseSigned
from amber.service.tokens import Tokens
from curation.catalog.catalog import Catalog
from curation.errors import BadInput, Busy, NotFound
from training.dynamics.releases import champion
from training.judging.gate_rules import GateRules

TASKS = {"color": ("90 points", "1 point"), "car": ("90 points", "1 point"), "speed": ("400 km/h", "900 km/h")}


def rules(*names: str) -> str:
    return "".join(
        f'[[judge]]\ntask = "{name}"\nmargin = "{TASKS[name][0]}"\nfloor = "{TASKS[name][1]}"\n' for name in names
    )


ALL = rules(*TASKS)
RELEASE, SIGN = ('form[action$="/release"]', 'form[action$="/release/sign"]')


@pytest.fixture
def own(made_chain: Chain, tmp_path: Path) -> Catalog:
    return copy_home(made_chain.catalog, tmp_path)


def deployed(catalog: Catalog) -> str:
    with catalog.read() as now:
        return champion(now)


def release_acts(catalog: Catalog) -> list[tuple[str, str, str]]:
    """Act, run and who did it, of every release and return, the oldest first."""
    with catalog.read() as now:
        acts = now.ownership.acts().to_pylist()
    return [(act["act"], act["subject"], act["member"]) for act in acts if act["act"].startswith("release")]


def signed(catalog: Catalog, run: str) -> list[tuple[str, str]]:
    """For whom the release of a run was signed off, and by whom."""
    with catalog.read() as now:
        acts = now.ownership.acts().to_pylist()
    return [(act["owner"], act["member"]) for act in acts if (act["act"], act["subject"]) == ("sign_off", run)]


def release_by_clicks(browser: Chromium, url: str, run: str, text: str, *, says: str, where: str = ".done") -> None:
    """Type rules into the form of a run, and release it; what the page then says."""
    visit(browser, f"{url}/runs/{run}/release")
    fill(browser, f"{RELEASE} textarea[name=rules]", text)
    fill(browser, f"{RELEASE} textarea[name=notes]", "For the yard at night only.")
    send_form(browser, "/runs/{run}/release", f"{RELEASE} button", says=says, where=where)


def test_a_lead_releases_in_the_background_and_goes_back(own: Catalog, made_chain: Chain) -> None:
    first, second = made_chain.pixel.id, made_chain.distilled.id
    secret = Tokens(own.home).add("lena", "admin")
    with served(own.home) as service, Chromium() as browser:
        browser.look(width=400, height=800)
        sign_in(browser, service.url, secret)
        for run in (first, second):
            release_by_clicks(browser, service.url, run, ALL, says="released, and deployed from now on")
            assert deployed(own) == run
        visit(browser, f"{service.url}/releases")
        press(browser, "main details summary")
        send_form(browser, "/releases/back", 'form[action="/releases/back"] button', says="is deployed again")
        assert "went back" in browser.evaluate("document.querySelector('main').textContent")
    assert deployed(own) == first
    assert release_acts(own) == [
        ("release", first, "lena"), ("release", second, "lena"), ("release_back", first, "lena"),
    ]  # fmt: skip
    with visiting(own.home, "admin", "lea") as lead:
        again = lead.send("/releases/back", deployed=second)  # a double click
        assert again.status_code == 409
        assert "is not deployed" in alerts(again)
        sent = lead.send(f"/runs/{first[:8]}/release", rules=ALL)
        assert (sent.status_code, sent.headers["location"]) == (303, f"/runs/{first}/release")
        assert "deployed already" in lead.get(f"/runs/{first}/release").text
    assert deployed(own) == first


def test_owners_sign_by_clicks_and_what_was_typed_is_kept(own: Catalog, made_chain: Chain) -> None:
    run, other, some = made_chain.pixel.id, made_chain.distilled.id, rules("color", "car")
    set_members(own, "eve", EVE)
    secrets = {name: Tokens(own.home).add(name, scope) for name, scope in (("lena", "admin"), ("eve", "owner"))}  # type: ignore[arg-type]
    with served(own.home) as service, Chromium() as browser:
        browser.look(width=400, height=800)
        sign_in(browser, service.url, secrets["lena"])
        release_by_clicks(browser, service.url, run, some, says="does not judge speed (eve)", where=".alarm")
        assert browser.evaluate("[...document.querySelectorAll('textarea')].map(each => each.value.trim())") == [
            some.strip(), "For the yard at night only.", some.strip(),
        ]  # fmt: skip
        sign_in(browser, service.url, secrets["eve"], to="/releases", shows="#waiting")
        send_form(browser, "/releases/sign", "#waiting button", says="token:eve signed the release")
        assert signed(own, run) == [("eve", "eve")]
        visit(browser, f"{service.url}/runs/{other}/release")
        press(browser, "main details summary")
        choose(browser, f"{SIGN} select[name=owner]", "bob")
        fill(browser, f"{SIGN} textarea[name=rules]", rules("color"))
        send_form(browser, "/runs/{run}/release/sign", f"{SIGN} button", says="bob accepts the release of")
        assert signed(own, other) == [("bob", "eve")]
        sign_in(browser, service.url, secrets["lena"])
        visit(browser, f"{service.url}/runs/{run}/release")
        Tokens(own.home).remove("lena")  # which ends the session
        send_form(
            browser, "/runs/{run}/release", f"{RELEASE} button", says="Nothing that you typed is lost", where=".alarm"
        )
        fill(browser, "input[name=token]", Tokens(own.home).add("lena", "admin"))
        send_form(browser, "/sign-in", "form.box button", where="textarea[name=rules]")
        send_form(browser, "/runs/{run}/release", "form.box button", says="deployed from now on")
    assert release_acts(own) == [("release", run, "lena")]


REFUSED = {
    "no floor": (ALL.replace('floor = "1 point"\n', ""), "has no floor"),
    "unjudged": (rules("color"), "the gate does not judge car (bob), speed (eve) on everything"),
    "wrong unit": (ALL.replace('"400 km/h"', '"400 points"'), "is measured in km/h"),
}


@pytest.mark.parametrize(("text", "line"), REFUSED.values(), ids=REFUSED)
def test_what_is_refused_is_told_and_nothing_is_released(own: Catalog, made_chain: Chain, text: str, line: str) -> None:
    with visiting(own.home) as lead:
        lead.send(f"/runs/{made_chain.pixel.id}/release", rules=text)
        shown = lead.get(f"/runs/{made_chain.pixel.id}/release")
        assert line in alerts(shown)
    assert deployed(own) == ""


def test_owners_sign_and_others_are_refused(own: Catalog, made_chain: Chain) -> None:
    run = made_chain.pixel.id
    with visiting(own.home, "label", "bob") as bob:
        done = bob.send(f"/runs/{run}/release/sign", rules=rules("color"), owner="bob")
        assert "bob accepts the release of" in done.text
        wrong = bob.send(f"/runs/{run}/release/sign", rules=rules("color"), owner="nobody")
        assert "owns no task" in alerts(wrong)
        assert 'name="rules"' in wrong.text
        assert bob.send(f"/runs/{run}/release", rules=ALL).status_code == 403
        assert bob.send("/releases/back", deployed=run).status_code == 403
    with own.read() as now:
        assert [act["owner"] for act in now.ownership.acts().to_pylist() if act["subject"] == run] == ["bob"]


def test_a_release_that_waits_is_signed_by_its_owner_once(own: Catalog, made_chain: Chain) -> None:
    run, some = made_chain.pixel.id, rules("color", "car")
    set_members(own, "eve", EVE)
    with Visitors(own.home) as visitors:
        lead, bob, eve = visitors.of("lena", "admin"), visitors.of("bob", "owner"), visitors.of("eve", "owner")
        lead.send(f"/runs/{run}/release", rules=some)
        assert "does not judge speed (eve)" in alerts(lead.get(f"/runs/{run}/release"))
        assert "Only token:eve may sign" in lead.get("/releases").text
        page = eve.get("/releases")
        ((_, fields),) = [form for form in forms(page.text) if form[0] == "/releases/sign"]
        assert "needs eve (token:eve), and you are token:bob" in alerts(
            bob.client.post("/releases/sign", data={**fields, "form_word": form_word(bob.get("/releases").text)})
        )
        for changed in ({"rules": "f" * 64}, {"before": "nix"}, {"owner": "ada"}):
            assert "does not wait" in alerts(eve.send("/releases/sign", page, **changed))
        for _ in range(2):  # a double click
            done = eve.send("/releases/sign", page)
            assert done.status_code == 303
        assert "token:eve signed the release" in eve.get(done.headers["location"]).text
        assert "/releases/sign" not in eve.get("/plans").text
    with own.read() as now:
        signed = [act for act in now.ownership.acts().to_pylist() if (act["subject"], act["owner"]) == (run, "eve")]
        assert [(act["member"], act["act"]) for act in signed] == [("eve", "sign_off")]
        assert now.ownership.signed(run, "", GateRules.of_text(some).sha256) == {"eve"}


def test_a_release_that_waits_is_signed_by_the_api_too(own: Catalog, made_chain: Chain) -> None:
    run, some = made_chain.pixel.id, rules("color", "car")
    with visiting(own.home) as lead:
        lead.send(f"/runs/{run}/release", rules=some)
        assert "does not judge speed (eve)" in alerts(lead.get(f"/runs/{run}/release"))
    with visiting(own.home, "owner", "eve") as eve:
        client = Client("", eve.secret, http=eve.client)
        (row,) = client.waiting()
        signed = ReleaseSigned(run=row.subject, against=row.before, rules_sha256=row.policy, owner="eve", batch="b")
        for _ in range(2):
            assert client.sign_release(signed).by == "token:eve"
        assert client.waiting() == []
        with pytest.raises(NotFound, match="does not wait for eve"):
            client.sign_release(signed.model_copy(update={"batch": "c"}))


def test_a_second_release_is_refused_while_one_goes_on(
    own: Catalog, made_chain: Chain, monkeypatch: pytest.MonkeyPatch
) -> None:
    held, run = threading.Event(), made_chain.pixel.id
    real = module.release

    def slow(*words: object, **named: object) -> object:
        held.wait(30)
        return real(*words, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "release", slow)
    names = {scope: Tokens(own.home).add(f"api-{scope}", scope) for scope in ("read", "admin")}  # type: ignore[arg-type]
    with (
        served(own.home) as service,
        Client(service.url, names["admin"]) as lead,
        Client(service.url, names["read"]) as reader,
    ):
        assert lead.release(ReleaseAsked(run=run[:8], rules=ALL)).outcome == ""
        with pytest.raises(Busy, match="is being released; wait for it"):
            lead.release(ReleaseAsked(run=run, rules=ALL))
        assert reader.releases().work is not None
        with pytest.raises(BadInput, match="scope"):
            reader.release(ReleaseAsked(run=run, rules=ALL))
        held.set()
        while (work := reader.releases().work) and not work.outcome:
            time.sleep(0.1)
        assert work
        assert (work.outcome, work.gate and work.gate.outcome) == ("released", "pass")
        assert reader.releases().deployed == run
