"""What a reader does on the page."""

from __future__ import annotations

import json
from typing import Any


def go(page: Any, tab: str) -> None:
    page.run(f"location.hash = '{tab}'")
    page.wait(f"document.querySelector('main > .{tab}')")


def pick(page: Any, selector: str, value: str) -> None:
    page.run(
        f"(() => {{ const e = document.querySelector({json.dumps(selector)}); e.value = {json.dumps(value)}; "
        "e.dispatchEvent(new Event('input', {bubbles: true})); e.dispatchEvent(new Event('change', {bubbles: true})); })()"
    )


def say(page: Any, text: str) -> None:
    page.run("document.querySelector('textarea[name=message]').focus()")
    page.type(text)
    page.press("Enter")


def answered(page: Any, count: int = 1) -> list[str]:
    page.wait(f"[...document.querySelectorAll('.foot')].filter((e) => e.textContent).length >= {count}")
    return page.run("[...document.querySelectorAll('.said')].map((e) => e.textContent)")


def choose(page: Any, first: str, second: str = "") -> None:
    for i, name in enumerate((first, second)):
        page.run(
            f"(() => {{ const e = document.querySelectorAll('.chat > .row select')[{i}]; e.value = '{name}'; e.onchange(); }})()"
        )
