"""Requests withdrawn and a dispute settled by clicks in a real browser, read back from the ledger."""

from pathlib import Path

from support.chromium import Chromium
from support.homes import label, labels, make_home
from support.label_requests import ask
from support.pages import sign_in
from support.served import served

from amber.service.tokens import Tokens


def test_requests_are_withdrawn_and_a_dispute_is_settled(tmp_path: Path) -> None:
    catalog = make_home(tmp_path, samples=20)
    ask(catalog, (2, "color"), (3, "car"))
    with catalog.commit(author="people", message="label") as change:
        for who, value in (("ann@x.org", "red"), ("bob@x.org", "green")):
            change.add_labels(labels([label("pictures/00001", "color", value, who)]), source="human")
    secret = Tokens(catalog.home).add("lea", "admin")
    with served(catalog.home) as service, Chromium() as browser:
        sign_in(browser, service.url, secret, to="/requests", shows="input[name=chosen]")
        browser.press("document.querySelector('input[name=chosen][value=\"1\"]')")
        browser.press("document.querySelector('.act button:last-of-type')")
        browser.wait_for("!!document.querySelector('.done')?.innerText.includes('1 request withdrawn')")
        browser.open(f"{service.url}/people")
        browser.wait_for("!!document.querySelector('#disputes input[name=value]')")
        browser.press("document.querySelector('#disputes input[name=value]')")
        browser.write("green")
        browser.press("document.querySelector('#disputes article button')")
        browser.wait_for("!!document.querySelector('.done')?.innerText.includes('settled by token:lea')")
    with catalog.read() as now:
        assert now.requests("withdrawn")["request_id"].to_pylist() == [1]
        settled = [row for row in now.labels.by_annotator("color").to_pylist() if row["source"] == "lead"]
        assert [(row["annotator"], row["code"]) for row in settled] == [("lea", 2)]
        assert [row["author"] for row in now.log().to_pylist()[:2]] == ["lea", "lea"]
