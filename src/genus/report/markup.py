"""Pieces of a page: the document around it, tables, lists of facts, figures.

Everything is inside the file: no script, no font, no picture from elsewhere, and a policy that forbids the browser to fetch any.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from html import escape

from genus.report.chart import COLOURS
from genus.report.style import STYLE

POLICY = "default-src 'none'; style-src 'unsafe-inline'"


def document(title: str, body: Sequence[str], language: str = "en", style: str = "", script: str = "") -> str:
    """A whole page from pieces that are HTML already.

    Args:
        style: of this page, after that of all. script: a module that runs when the page is read; the policy lets only it run.
    """
    policy = POLICY + (f"; script-src {_only(script)}" if script else "")
    return "\n".join(
        [
            "<!doctype html>",
            f'<html lang="{"zh-CN" if language == "zh" else "en"}"><head><meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{escape(title)} – Genus</title>",
            f"<style>{STYLE}{style}</style></head><body>",
            *body,
            *([f'<script type="module">{script}</script>'] if script else []),
            "</body></html>\n",
        ]
    )


def _only(script: str) -> str:
    """How a policy names a script that may run: by its hash."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode('ascii')}'"


def facts(pairs: Sequence[tuple[str, str]], kind: str = "facts") -> str:
    """Labels with their texts, in columns; `kind` "facts big" for the figures that matter."""
    items = "".join(f"<div><dt>{escape(k)}</dt><dd>{escape(v)}</dd></div>" for k, v in pairs)
    return f'<dl class="{kind}">{items}</dl>'


def table(head: Sequence[str], rows: Sequence[Sequence[str]], foot: Sequence[str] = ()) -> str:
    """A table from cells that are HTML already."""

    def line(cells: Sequence[str], tag: str = "td") -> str:
        return "<tr>" + "".join(f"<{tag}>{c}</{tag}>" for c in cells) + "</tr>"

    end = f"<tfoot>{line(foot)}</tfoot>" if foot else ""
    body = "".join(map(line, rows))
    return f'<div class="scroll"><table><thead>{line(head, "th")}</thead><tbody>{body}</tbody>{end}</table></div>'


def figure(picture: str, caption: str, names: Sequence[str] = ()) -> str:
    """A chart with its caption and the names of its colours; nothing without a chart."""
    key = f'<div class="legend">{"".join(swatch(i, name) for i, name in enumerate(names))}</div>' if names else ""
    return f"<figure><figcaption>{escape(caption)}</figcaption>{key}{picture}</figure>" if picture else ""


def swatch(index: int, name: str) -> str:
    """A name with the colour of its lines."""
    return f'<span class="c{index % COLOURS}"><i></i><span>{escape(name)}</span></span>'


def text_size(count: int) -> str:
    """Bytes of text, as `genus prepare` counts them: in powers of ten."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= scale:
            return f"{count / scale:.1f} {unit}"
    return f"{count} bytes"


def size(count: float) -> str:
    """Bytes of memory as text, in powers of two."""
    for limit, unit in ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB")):
        if count >= limit:
            return f"{count / limit:.1f} {unit}"
    return f"{count:.0f} B"
