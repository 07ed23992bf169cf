"""The page when something is amiss or in the way: by keyboard alone, with wrong values, keys and connections."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from genus.serve.settings import Settings

from .conftest import Site, running
from .page_steps import answered, choose, go, pick, say

BUTTON = "[...document.querySelectorAll('button')].find((b) => b.textContent === '{}')"


def button(page: Any, name: str) -> None:
    page.run(f"{BUTTON.format(name)}.click()")


def focused(page: Any) -> str:
    return page.run("document.activeElement.name || document.activeElement.textContent")


def test_the_keyboard_reaches_everything_in_order(page: Any) -> None:
    page.run("document.body.focus()")
    met = []
    for _ in range(10):
        page.press("Tab")
        met.append(focused(page))
    assert met[:3] == ["Skip to the content", "Chat", page.run("document.querySelector('#language').textContent")]
    assert [each for each in met if each in ("message", "Send", "Settings")] == ["Settings", "message", "Send"]
    assert page.run("[...document.querySelectorAll('input, select, textarea')].every((e) => e.labels?.length || e.ariaLabel)")


def test_skipping_keeps_the_tab(page: Any) -> None:
    go(page, "runs")
    page.run("document.querySelector('#skip').click()")
    assert page.run("document.activeElement.id") == "main"
    assert page.run("location.hash") == "#runs" and page.run("document.title") == "Runs · Genus"
    page.run("document.querySelector('nav [aria-selected=true]').focus()")
    page.press("End")
    page.wait("document.title === 'Predict · Genus' && document.activeElement.textContent === 'Predict'")
    page.press("Home")
    page.wait("document.title === 'Chat · Genus' && document.activeElement.textContent === 'Chat'")


def test_the_focus_stays_where_something_can_be_done(page: Any) -> None:
    choose(page, "writer")
    pick(page, "input[name=max_tokens]", "2000")
    page.run("document.querySelector('textarea[name=message]').focus()")
    page.type("It was")
    page.run(f"{BUTTON.format('Send')}.focus()")
    page.press("Enter")
    page.wait("document.querySelector('.token')")
    assert focused(page) == "Stop"
    page.press("Escape")  # stops it too
    answered(page)
    assert focused(page) == "Again" and "stopped" in page.run("document.querySelector('.foot').textContent")
    page.run("document.querySelector('.said').focus()")
    page.press("End")
    page.wait("!document.querySelector('.tip').hidden")
    assert page.run("[...document.querySelectorAll('.token')].at(-1).classList.contains('on')")
    page.press("Escape")
    assert page.run("document.querySelector('.tip').hidden")


def test_a_wrong_setting_is_shown_and_not_sent(page: Any) -> None:
    choose(page, "writer")
    pick(page, "input[name=temperature]", "11")
    say(page, "It was")
    assert page.run("document.querySelectorAll('.turn').length") == 0 and focused(page) == "temperature"
    assert page.run("document.querySelector('textarea[name=message]').value") == "It was"
    assert page.run("document.querySelector('input[name=temperature]').ariaInvalid") == "true"
    button(page, "Usual values")
    field = "document.querySelector('input[name=temperature]')"
    assert page.run(f"[{field}.value, {field}.placeholder]") == ["", "0.8"]
    pick(page, "input[name=max_tokens]", "5000")  # more than this server writes: it says so, and names the field
    page.run("document.querySelector('form').requestSubmit()")
    page.wait("document.querySelector('.foot.problem')")
    assert "5,000 is more than this server writes" in page.run("document.querySelector('.foot').textContent")
    page.problems.clear()  # the browser notes the status
    button(page, "Usual values")


def test_what_is_typed_outlives_a_tab(page: Any) -> None:
    page.run("document.querySelector('textarea[name=message]').focus()")
    page.type("half a thought")
    go(page, "runs")
    pick(page, "#language", "zh")
    go(page, "chat")
    pick(page, "#language", "en")
    assert page.run("document.querySelector('textarea[name=message]').value") == "half a thought"


def test_two_models_look_at_a_sentence(page: Any) -> None:
    go(page, "attention")
    pick(page, "select[name=second]", "talker")
    pick(page, "select[name=model]", "writer")
    page.wait(
        "document.querySelectorAll('.views > section').length === 2 && document.querySelectorAll('.whole canvas').length === 2"
    )
    assert page.run("[...document.querySelectorAll('.views h2')].map((e) => e.textContent)") == ["writer", "talker"]
    left, right = page.run("[...document.querySelectorAll('.views > section')].map((e) => e.getBoundingClientRect().x)")
    assert left < right
    drawn = "[...document.querySelectorAll('.whole canvas')].map((c) => c.getContext('2d').getImageData(0, 0, c.width, c.height)"
    assert all(page.run(f"{drawn}.data.some((x, i) => i % 4 !== 3 && x > 0 && x < 255))"))  # in colour
    checked = "document.querySelector('.words [aria-checked=true]').textContent"
    assert page.run(checked) == "t"  # of `it`, which these models spell
    pick(page, "textarea[name=sentence]", "x" * 600)
    page.run("document.querySelector('.attention form').requestSubmit()")
    page.wait("document.querySelectorAll('.views .problem').length === 2")
    page.problems.clear()


def test_labelling_goes_on_in_another_tab(page: Any, tmp_path: Path) -> None:
    go(page, "predict")
    file = tmp_path / "films.csv"
    file.write_text("text\n" + "the film was great\n" * 300, encoding="utf-8")
    page.give_file("input[name=file]", file)
    page.run("document.querySelector('.predict form').requestSubmit()")
    go(page, "chat")
    pick(page, "#language", "zh")
    go(page, "predict")
    page.wait("[...document.querySelectorAll('.predict button')].some((b) => b.textContent === '下载 films.labelled.csv')")
    pick(page, "#language", "en")
    assert "300 rows, 0 with an error" in page.run("document.querySelector('.predict').innerText")
    file.write_text("nothing\nof use\n", encoding="utf-8")
    page.give_file("input[name=file]", file)
    page.run("document.querySelector('.predict form').requestSubmit()")
    page.wait("document.querySelector('.predict .problem')")
    assert "has no column 'text'" in page.run("document.querySelector('.predict .problem').textContent")


@pytest.fixture
def locked(runs: Path) -> Iterator[Site]:
    with running(Settings((str(runs / "writer"),), port=0, key="a secret key")) as site:
        yield site


def give(browser: Any, key: str) -> None:
    browser.wait("document.querySelector('dialog[open] input')")
    browser.run(f"document.querySelector('dialog input').value = {json.dumps(key)}")
    browser.run("document.querySelector('dialog form').requestSubmit()")


def test_a_wrong_key(browser: Any, locked: Site) -> None:
    browser.size(390, 800)
    browser.open(locked.url)
    give(browser, "schlüssel")
    assert browser.run("document.querySelector('dialog').open")  # no key is like that, and no header could carry it
    give(browser, "a wrong key")
    browser.wait("document.querySelector('dialog .problem')")
    button(browser, "Cancel")
    browser.wait("document.querySelector('main .problem')")
    button(browser, "Try again")
    give(browser, "a secret key")
    browser.wait("document.querySelector('.chat textarea[name=message]')")


def test_a_server_that_goes_away(browser: Any, runs: Path) -> None:
    with running(Settings((str(runs / "writer"),), port=0)) as site:
        browser.size(1100)
        browser.open(site.url)
        browser.wait("document.querySelector('.chat textarea[name=message]')")
        pick(browser, "input[name=max_tokens]", "4000")
        say(browser, "It was")
        browser.wait("document.querySelector('.token')")
        site.server.should_exit = site.server.force_exit = True
        browser.wait("document.querySelector('.foot.problem')")
        assert "connection was lost" in browser.run("document.querySelector('.foot').textContent")
        assert browser.run(f"{BUTTON.format('Send')}.disabled") is False
