"""Sign-off in a real browser: a policy that takes from another owner is refused, signed by that owner, and planned."""

import json
from pathlib import Path

import pytest
from support.chromium import Chromium
from support.homes import work_in
from support.pages import sign_in
from support.refusals import refused
from support.served import served
from support.shared_plans import DRAWS, EVE, file_of, policy_of, set_members, shared_home

from amber.cli import run
from amber.service.tokens import Tokens
from curation.catalog.catalog import Catalog


def signed(catalog: Catalog) -> list[tuple[str, str, str]]:
    with catalog.read() as now:
        acts = now.ownership.acts().to_pylist()
    return [(act["owner"], act["member"], act["subject"]) for act in acts if act["act"] == "sign_off"]


def test_a_plan_is_refused_signed_off_in_the_page_and_planned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    catalog, before = shared_home(tmp_path)
    set_members(catalog, "eve", EVE)
    work_in(tmp_path, monkeypatch)
    secrets = {name: Tokens(catalog.home).add(name, "owner") for name in ("eve", "bob")}
    words = ["plan", "--policy", str(file_of(tmp_path, policy_of(5))), "--draws", str(DRAWS)]
    assert "without the sign-off of eve (speed: share 0.5 -> 0.1667" in refused(capsys, *words)
    with served(catalog.home) as service, Chromium() as browser:
        sign_in(browser, service.url, secrets["bob"], to="/plans", shows="#waiting")  # another owner's token
        assert "Only token:eve may sign" in browser.evaluate("document.body.innerText")
        assert not browser.evaluate("!!document.querySelector('form[action=\"/plans/sign\"]')")
        browser.press("document.querySelector('form.who button')")
        browser.wait_for("!!document.querySelector('input[name=token]')")
        assert signed(catalog) == []
        sign_in(browser, service.url, secrets["eve"], to="/plans", shows="#waiting")
        browser.press("document.querySelector('form[action=\"/plans/sign\"] button')")
        browser.wait_for("document.querySelector('.done')?.innerText.includes('token:eve signed')")
        assert not browser.evaluate("!!document.querySelector('#waiting')")
        ((owner, member, plan),) = signed(catalog)
        assert (owner, member) == ("eve", "eve")
        capsys.readouterr()
        assert run([*words, "--commit", str(before.commit + 1), "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["plan"] == plan
        browser.open(f"{service.url}/plans/{plan}")
        browser.wait_for("document.body?.innerText.includes('speed pays')")
        assert {url.partition("/")[0] for url in browser.requested if not url.startswith(service.url)} <= {
            "about:blank", "data:image"
        }  # fmt: skip
