"""Sign-off in a real browser: a policy that takes from another owner is refused, signed by that owner, and planned; a
policy is edited, checked and put in force."""

import json
from pathlib import Path

import pytest
from support.chromium import Chromium
from support.homes import work_in
from support.pages import fill, send_form, sign_in, visit
from support.refusals import refused
from support.served import served
from support.shared_plans import DRAWS, EVE, file_of, policy_of, set_members, shared_home

from amber.cli import run
from amber.service.tokens import Tokens
from curation.catalog.catalog import Catalog
from samplers import Policy
from samplers.plan.policy_text import policy_text


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
        send_form(browser, "/sign-out", "form.who button", where="input[name=token]")
        assert signed(catalog) == []
        sign_in(browser, service.url, secrets["eve"], to="/plans", shows="#waiting")
        send_form(browser, "/plans/sign", 'form[action="/plans/sign"] button', says="token:eve signed")
        assert not browser.evaluate("!!document.querySelector('#waiting')")
        ((owner, member, plan),) = signed(catalog)
        assert (owner, member) == ("eve", "eve")
        capsys.readouterr()
        assert run([*words, "--commit", str(before.commit + 1), "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["plan"] == plan
        browser.open(f"{service.url}/plans/{plan}")
        browser.wait_for("document.body?.innerText.includes('speed pays')")
        _edit_policy(browser, service.url)
        assert {url.partition("/")[0] for url in browser.requested if not url.startswith(service.url)} <= {
            "about:blank", "data:image"
        }  # fmt: skip
    with catalog.read() as now:
        assert Policy.model_validate_json(now.ownership.policy()) == policy_of(3)
        act = now.ownership.acts().to_pylist()[-1]
        assert (act["act"], act["member"], act["via"]) == ("policy", "eve", "token")
        assert now.log()["author"][0].as_py() == "eve"


def _edit_policy(browser: Chromium, url: str) -> None:
    """Type another policy, check it, and put what was checked in force, in a window as narrow as a phone's."""
    browser.look(width=400, height=800)
    visit(browser, f"{url}/plans/policy")
    fill(browser, "textarea[name=text]", policy_text(policy_of(3)))
    check = 'button[formaction^="/plans/policy/check"]'
    send_form(browser, "/plans/policy/check", check, says="pays", where="#effects")
    send_form(browser, "/plans/policy", ".box.wide button", says="is in force, set by token:eve")
