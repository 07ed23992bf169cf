"""The attention page: a sentence, and which of its words looks at which, in every head of every layer.

One file that opens from disk: its data, its style and its script lie inside, and the policy of the page lets no other script run
and nothing be fetched. The same script draws the page of `genus serve`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from html import escape
from importlib.resources import files
from typing import Any

from genus.report.markup import document

VIEW = files("genus.report") / "view"
SCRIPTS = ("words.js", "dom.js", "attention.js")
BEGIN = """
const read = (id) => JSON.parse(document.getElementById(id).textContent);
const t = translator(document.documentElement.lang.startsWith("zh") ? "zh" : "en");
show(document.getElementById("looks"), read("data"), t);
"""


def page(data: Mapping[str, Any], title: str, sentence: str, target: str = "", language: str = "en") -> str:
    """The HTML.

    Args:
        data: `Explanation.to_json()` of genus.evaluate.explain. title: the model's name. sentence: what it read. target: what an
            encoder-decoder wrote beside it. language: of the labels, "en" or "zh".
    """
    body = [
        f"<h1>{escape(title)}</h1>",
        f"<p>{escape(sentence)}</p>",
        f"<p>→ {escape(target)}</p>" if target else "",
        '<div id="looks"></div>',
        f'<script type="application/json" id="data">{_inside(data)}</script>',
    ]
    return document(title, body, language, style=(VIEW / "attention.css").read_text(encoding="utf-8"), script=script())


def script() -> str:
    """The modules as one: without imports, since each finds what it needs above itself."""
    modules = [(VIEW / name).read_text(encoding="utf-8") for name in SCRIPTS]
    return re.sub(r"^(import .*$|export )", "", "\n".join(modules), flags=re.M) + BEGIN


def _inside(data: Mapping[str, Any]) -> str:
    """JSON that cannot end the element it stands in."""
    return json.dumps(data, ensure_ascii=False).replace("<", "\\u003c")
