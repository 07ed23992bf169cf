"""The page in a real browser, against the real server: by mouse and keyboard, wide and narrow, in English and Chinese."""

from __future__ import annotations

import csv
import json
import time
from pathlib import Path
from typing import Any

import pytest

from genus.serve.settings import Settings
from genus.tune.labeller import Labeller

from .conftest import Site, running
from .page_folder import go_on
from .page_steps import answered, choose, go, pick, say

# ---- chat


def test_a_conversation(page: Any) -> None:
    choose(page, "talker")
    pick(page, "input[name=max_tokens]", "24")
    pick(page, "input[name=temperature]", "0")
    say(page, "Hello")
    first = answered(page)
    assert len(first) == 1 and first[0]
    assert page.run("document.querySelector('.mine').textContent").endswith("Hello")
    assert "a second" in page.run("document.querySelector('.foot').textContent")
    page.run("[...document.querySelectorAll('button')].find((b) => b.textContent === 'Again').click()")
    page.wait("[...document.querySelectorAll('button')].find((b) => b.textContent === 'Again').disabled === false")
    assert answered(page) == first  # always the most probable token
    say(page, "And?")
    assert len(answered(page, 2)) == 2


def test_every_token_shows_how_likely_it_was(page: Any) -> None:
    choose(page, "writer")
    pick(page, "input[name=max_tokens]", "20")
    say(page, "It was")
    answered(page)
    page.run("document.querySelector('.said').focus()")
    spans = page.run("document.querySelectorAll('.token').length")
    whole = 0
    for _ in range(spans):
        page.press("ArrowRight")
        assert page.run("document.querySelector('.tip').hidden") is False
        chances = page.run("[...document.querySelectorAll('.tip td:nth-child(2)')].map((e) => parseFloat(e.textContent))")
        assert len(chances) >= 5 and all(0 <= chance <= 100 for chance in chances)
        taken = page.run("[...document.querySelectorAll('.tip .taken td:first-child')].map((e) => e.textContent)")
        shown = page.run("document.querySelector('.token.on').textContent")
        if len(taken) == 1 and "\ufffd" not in shown + taken[0] and not taken[0].startswith("bytes:"):  # a whole character
            assert taken[0] == shown.replace(" ", "·").replace("\n", "⏎").replace("\t", "⇥")
            whole += 1
    assert whole
    find = "[...document.querySelectorAll('.token')].findLastIndex((e) => e.getBoundingClientRect().width > 4)"
    last = page.run(find)
    place = f"document.querySelectorAll('.token')[{last}].getBoundingClientRect()"
    box = page.run(f"[{place}.x + 2, {place}.y + 4]")
    page.call("Input.dispatchMouseEvent", type="mouseMoved", x=box[0], y=box[1])
    page.wait(f"[...document.querySelectorAll('.token')].indexOf(document.querySelector('.token.on')) === {last}")


def test_two_models_side_by_side(page: Any) -> None:
    choose(page, "writer", "talker")
    pick(page, "input[name=max_tokens]", "8")
    say(page, "It was")
    assert len(answered(page, 2)) == 2
    assert page.run("[...document.querySelectorAll('.answers h3')].map((e) => e.textContent)") == ["writer", "talker"]
    columns = page.run("[...document.querySelectorAll('.answers article')].map((e) => e.getBoundingClientRect().x)")
    assert columns[1] > columns[0] + 200


def test_stop(page: Any, desk: Site) -> None:
    choose(page, "writer")
    pick(page, "input[name=max_tokens]", "4096")
    pick(page, "input[name=temperature]", "0")
    say(page, "It was")
    page.wait("document.querySelector('.said')?.textContent.length > 0")
    page.press("Escape")
    answered(page)
    assert "stopped" in page.run("document.querySelector('.foot').textContent")
    assert page.run("[...document.querySelectorAll('button')].find((b) => b.textContent === 'Send').disabled") is False
    desk.until("genus_requests_in_flight", lambda count: count <= 1)  # that one asks


def test_a_rewriter_and_a_message_that_cannot_be_answered(page: Any) -> None:
    choose(page, "rewriter")
    assert page.run("document.querySelector('textarea[name=message]').placeholder") == "Text to rewrite"
    pick(page, "input[name=max_tokens]", "8")
    told = "document.querySelector('input[name=temperature]').placeholder"
    assert page.run(told) == "0"
    page.run("(() => { const real = fetch; window.fetch = (at, asked) => (window.sent = asked?.body, real(at, asked)); })()")
    say(page, "It was")
    answered(page)
    assert "temperature" not in json.loads(page.run("sent"))  # the server's own: the likeliest words
    choose(page, "writer", "rewriter")
    assert page.run(told) == "0.8 / 0"
    choose(page, "writer")
    page.run("document.querySelector('textarea[name=message]').focus()")
    page.paste("x" * 3000)
    page.press("Enter")
    page.wait("document.querySelector('.foot.problem')")
    assert "tokens" in page.run("document.querySelector('.foot.problem').textContent")
    page.problems[:] = [each for each in page.problems if "400" not in each]  # the browser notes the status


def test_chinese_and_what_was_said_stays(page: Any) -> None:
    choose(page, "writer")
    pick(page, "input[name=max_tokens]", "8")
    say(page, "It was")
    before = answered(page)
    pick(page, "#language", "zh")
    assert page.run("document.documentElement.lang") == "zh-CN"
    text = page.run("document.body.innerText")
    assert "对话" in text and "发送" in text and "Send" not in text
    assert page.run("[...document.querySelectorAll('.said')].map((e) => e.textContent)") == before
    pick(page, "#language", "en")


# ---- the other tabs


def test_attention(page: Any) -> None:
    go(page, "attention")
    page.wait("document.querySelector('.heads canvas')")
    pick(page, "select[name=model]", "talker")
    page.run("(() => { document.querySelector('textarea[name=sentence]').value = 'it'; })()")
    page.run("document.querySelector('.attention form').requestSubmit()")
    page.wait("document.querySelectorAll('.words [role=radio]').length === 3")
    pick(page, "select[name=model]", "rewriter")
    page.run("document.querySelector('.attention form').requestSubmit()")
    page.wait("[...document.querySelectorAll('.looks select option')].some((o) => o.value === 'cross')")


def test_curves_follow_a_run(page: Any, runs: Path) -> None:
    go(page, "runs")
    page.wait("document.querySelector('.report svg')")
    assert page.run("document.querySelector('.report h1').textContent") == "young"
    before = page.run("document.querySelector('.report svg').outerHTML")
    go_on(runs / "young", 20, 30)
    page.wait(f"document.querySelector('.report svg').outerHTML !== {json.dumps(before)}")
    page.run("[...document.querySelectorAll('.runs input')].find((b) => !b.checked).click()")
    page.wait("document.querySelector('.report h1').textContent.startsWith('Comparison')")


def test_a_file(page: Any, runs: Path, tmp_path: Path) -> None:
    go(page, "predict")
    file = tmp_path / "films.csv"
    file.write_text("text\n" + "".join(f"the film was {word}\n" for word in ("great", "dull") * 100), encoding="utf-8")
    told = Labeller.load(runs / "critic")([{"text": f"the film was {word}"} for word in ("great", "dull")])
    expected = [each["prediction"] for each in told]
    page.give_file("input[name=file]", file)
    page.downloads(tmp_path)
    page.run("document.querySelector('.predict form').requestSubmit()")
    page.wait("[...document.querySelectorAll('.predict button')].some((b) => b.textContent === 'Download films.labelled.csv')")
    assert "200 rows, 0 with an error" in page.run("document.querySelector('.predict').innerText")
    page.run("[...document.querySelectorAll('.predict button')].find((b) => b.textContent.startsWith('Download')).click()")
    end = time.monotonic() + 20
    while not (tmp_path / "films.labelled.csv").exists():
        page.run("1")
        assert time.monotonic() < end
        time.sleep(0.05)
    with open(tmp_path / "films.labelled.csv", encoding="utf-8", newline="") as rows:
        assert [row["prediction"] for row in csv.DictReader(rows)] == expected * 100
    pick(page, "textarea[name=text]", "the film was great")
    page.run("document.querySelectorAll('.predict form')[1].requestSubmit()")
    page.wait(f"document.querySelector('.predict dl')?.innerText.includes('{expected[0]}')")


def test_tabs_by_keyboard(page: Any) -> None:
    page.run("document.querySelector('nav [aria-selected=true]').focus()")
    page.press("ArrowRight")
    page.wait("location.hash === '#attention' && document.activeElement.textContent === 'Attention'")
    page.press("ArrowLeft")
    page.wait("location.hash === '#chat' && document.activeElement.textContent === 'Chat'")


@pytest.mark.parametrize("language", ["en", "zh"])
def test_a_phone(page: Any, language: str) -> None:
    page.size(360, 740, dark=True)
    pick(page, "#language", language)
    choose(page, "writer", "talker")
    pick(page, "input[name=max_tokens]", "40")
    say(page, "It was")
    answered(page, 2)
    for tab in ("chat", "attention", "runs", "predict"):
        go(page, tab)
        page.wait(
            {"attention": "document.querySelector('.heads canvas')", "runs": "document.querySelector('.report svg')"}.get(
                tab, "true"
            )
        )
        assert page.run("document.documentElement.scrollWidth") <= 360, tab
    colour = page.run("getComputedStyle(document.body).backgroundColor")
    assert sum(int(part) for part in colour.removeprefix("rgb(").removesuffix(")").split(",")) < 150


def test_a_key_is_asked_for(browser: Any, runs: Path) -> None:
    with running(Settings((str(runs / "writer"),), port=0, key="a secret key")) as locked:
        browser.size(1100)
        browser.open(locked.url)
        browser.wait("document.querySelector('dialog[open] input')")
        browser.run("document.querySelector('dialog input').focus()")
        browser.type("a secret key")
        browser.press("Enter")
        browser.wait("document.querySelector('.chat textarea[name=message]')")
