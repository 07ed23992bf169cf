"""The attention page: one file, which a real browser draws and a keyboard can use."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch

import genus
from genus.evaluate.explain import SENTENCE, explain
from genus.prepare.tokenizer import build
from genus.report.attention_page import page

HOSTILE = "</script><script>document.title='x'</script>"


def explained(name: str, sentence: str = SENTENCE, target: str = "") -> dict[str, Any]:
    tokenizer = build("bpe", [SENTENCE * 5], 400)
    model = genus.recipe(name, dim=32, depth=2, heads=4, vocab=tokenizer.vocab_size, context=64).model.build().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    return explain(model, tokenizer, sentence, target).to_json()


def test_nothing_comes_from_outside_and_only_its_own_script_runs() -> None:
    text = page(explained("gpt2"), "model", SENTENCE)
    assert not re.search(r"\b(src|href|action)=", text) and "http" not in re.sub(r"http-equiv", "", text)
    run = re.findall(r'<script type="module">(.*?)</script>', text, re.S)
    assert len(run) == 1 and "import " not in re.sub(r"//.*", "", run[0]).replace("important", "")
    digest = base64.b64encode(hashlib.sha256(run[0].encode()).digest()).decode()
    assert f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'" in text


def test_texts_are_escaped() -> None:
    text = page(explained("gpt2", HOSTILE), HOSTILE, HOSTILE, HOSTILE)
    assert text.count("<script") == 2 and text.count("</script>") == 2
    data = re.search(r'id="data">(.*?)</script>', text, re.S)
    assert data and "".join(json.loads(data[1])["tokens"][1:]) == HOSTILE


def test_words_are_used_and_translated() -> None:
    view = Path(genus.__file__).parent / "report" / "view"
    serve = Path(genus.__file__).parent / "serve" / "page"
    scripts = {path: path.read_text(encoding="utf-8") for path in (*view.glob("*.js"), *serve.glob("*.js"))}
    table = re.search(r"const ZH = {(.*?)\n};", scripts[view / "words.js"], re.S)
    assert table
    known = set(re.findall(r'^\s*("(?:[^"\\]|\\.)*"):', table[1], re.M))
    rest = "\n".join(text for path, text in scripts.items() if path.name != "words.js")
    unused = {key for key in known if key not in rest}
    assert not unused - {'"softmax attention"', '"additive attention"', '"failed"'}, "words that no page says"
    said = set(re.findall(r'\bt\(("(?:[^"\\]|\\.)*")', rest))
    assert said <= known, said - known


def opened(browser: Any, tmp_path: Path, data: dict[str, Any], language: str = "en", **size: Any) -> None:
    file = tmp_path / "page.html"
    file.write_text(page(data, "model", SENTENCE, "", language), encoding="utf-8")
    browser.size(**{"width": 1000, **size})
    browser.open(file.as_uri())
    browser.wait("document.querySelector('.heads canvas')")


CAPTION = "document.querySelector('.told').textContent"


def test_a_browser_draws_every_head(browser: Any, tmp_path: Path) -> None:
    data = explained("gpt2")
    opened(browser, tmp_path, data)
    assert browser.run("document.querySelectorAll('.heads canvas').length") == 2 * (4 + 1)
    assert browser.run("document.querySelectorAll('.words [role=radio]').length") == len(data["tokens"])
    chosen = browser.run("document.querySelector('[aria-checked=true]').textContent")
    assert chosen == "it" and "“it” looks at" in browser.run(CAPTION)
    layer = data["layers"][0]
    steps = torch.frombuffer(bytearray(base64.b64decode(layer["weights"])), dtype=torch.uint16).view(4, len(data["tokens"]), -1)
    browser.run("document.querySelector('.heads button[aria-label=\"Layer 1, head 2\"]').click()")
    row = data["tokens"].index(" it")
    weight = layer["low"][1] + steps[1, row].float() / 65535 * (layer["high"][1] - layer["low"][1])
    shown = browser.run("[...document.querySelectorAll('.shares tbody .bar span')].map((e) => +e.textContent)")
    assert shown == pytest.approx(weight.tolist(), abs=6e-4)
    assert not browser.problems


def test_keys_move_words_and_heads(browser: Any, tmp_path: Path) -> None:
    opened(browser, tmp_path, explained("gpt2"))
    browser.run("document.querySelector('.words [aria-checked=true]').focus()")
    browser.press("ArrowRight")
    assert browser.run("document.activeElement.textContent") == "was" and "“was”" in browser.run(CAPTION)
    browser.run("document.querySelector('.heads button[aria-label=\"Layer 1, head 1\"]').click()")
    browser.run("document.querySelector('.heads [aria-selected=true]').focus()")
    browser.press("ArrowDown")
    assert browser.run(CAPTION).startswith("Layer 2, head 1")
    browser.press("ArrowLeft")
    browser.press("ArrowLeft")
    assert browser.run(CAPTION).startswith("Layer 2, mean of all heads")
    assert browser.run("document.activeElement.getAttribute('aria-selected')") == "true"


@pytest.mark.parametrize("name", ["gated-deltanet", "transformer", "rnnsearch", "deltanet-hybrid"])
def test_every_kind_fits_a_phone(browser: Any, tmp_path: Path, name: str) -> None:
    target = "was too tired" if name in ("transformer", "rnnsearch") else ""
    opened(browser, tmp_path, explained(name, target=target), "zh", width=375, dark=True)
    assert browser.run("document.documentElement.scrollWidth") <= 375
    assert browser.run("document.documentElement.lang") == "zh-CN"
    text = browser.run("document.body.innerText")
    assert "每一层、每一头" in text and "Weight" not in text
    if name == "gated-deltanet":
        assert "写入" in text and "保留" in text and "β" in text
    if target:
        assert name == "rnnsearch" or browser.run("document.querySelector('select').value") == "cross"
        assert browser.run("document.querySelectorAll('.words')[1].hidden") is False
    assert not browser.problems
