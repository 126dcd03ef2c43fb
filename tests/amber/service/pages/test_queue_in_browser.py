"""Requests raised, withdrawn and asked for, a dispute settled and items assigned: by clicks in a window as narrow as a
phone's, read back from the ledger."""

from pathlib import Path

from support.chromium import Chromium
from support.homes import label, labels, make_home
from support.label_requests import ask
from support.pages import choose, fill, press, send_form, sign_in, visit
from support.served import served

from amber.service.tokens import Tokens

RAISE = 'button[formaction^="/requests/raise"]'
WITHDRAW = ".act button:last-of-type"


def test_requests_and_people_are_changed_by_clicks(tmp_path: Path) -> None:
    catalog = make_home(tmp_path, samples=20)
    ask(catalog, (2, "color"), (3, "car"), (4, "color"))
    with catalog.commit(author="people", message="label") as change:
        for who, value in (("ann@x.org", "red"), ("bob@x.org", "green")):
            change.add_labels(labels([label("pictures/00001", "color", value, who)]), source="human")
    secret = Tokens(catalog.home).add("lea", "admin")
    with served(catalog.home) as service, Chromium() as browser:
        browser.look(width=400, height=800)
        sign_in(browser, service.url, secret, to="/requests", shows="input[name=chosen]")
        _change_queue(browser)
        visit(browser, f"{service.url}/people")
        _change_people(browser)
    with catalog.read() as now:
        assert now.requests("withdrawn")["request_id"].to_pylist() == [1]
        assert now.requests.page("open").rows["request_id"].to_pylist() == [2, 0, 3, 4, 5]
        assert [row["arm"] for row in now.requests("open").to_pylist() if row["request_id"] > 2] == ["random"] * 3
        assert [(part.task, part.person, part.most) for part in now.people.assignments()] == [("car", "ann@x.org", 4)]
        settled = [row for row in now.labels.by_annotator("color").to_pylist() if row["source"] == "lead"]
        assert [(row["annotator"], row["code"]) for row in settled] == [("lea", 2)]
        assert now.log()["author"].to_pylist()[:6] == [*["lea"] * 5, "people"]


def _change_queue(browser: Chromium) -> None:
    """Put request 2 first, withdraw request 1, and ask for three labels at random."""
    press(browser, 'input[name=chosen][value="2"]')
    send_form(browser, "/requests/raise", RAISE, says="1 request put first")
    press(browser, 'input[name=chosen][value="1"]')
    send_form(browser, "/requests/withdraw", WITHDRAW, says="1 request withdrawn")
    fill(browser, "input[name=budget]", "3")
    fill(browser, "input[name=random_share]", "1")
    send_form(browser, "/requests", "#ask form > button", says="3 labels were asked for")


def _change_people(browser: Chromium) -> None:
    """Settle the dispute, and give ann four open items of car at most."""
    fill(browser, "#disputes input[name=value]", "green")
    send_form(browser, "/people/settle", "#disputes article button", says="settled by token:lea")
    choose(browser, "#assign select[name=task]", "car")
    fill(browser, "#assign input[name=person]", "ann")
    fill(browser, "#assign input[name=limit]", "4")
    send_form(browser, "/people/assign", "#assign form button", says="ann@x.org gets at most 4 open items of car")
