"""The page of a prepared folder: complete, escaped, alone, in two languages, and drawn by a real browser."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from genus import cli
from genus.report import data_distributions, data_page, data_words
from genus.report.bars import Bins, histogram
from genus.report.data_page import page
from genus.report.data_read import is_data, read_data
from genus.report.difference import marked

from .data_folder import HOSTILE, manifest, write_data
from .test_page import Outline


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_data(tmp_path / "DATA")


def cells(text: str, first: str) -> list[str]:
    """The cells of the table row whose first cell begins with a text, without markup."""
    for row in re.findall(r"<tr>(.*?)</tr>", text, re.S):
        own = [re.sub(r"<.*?>", "", cell) for cell in re.findall(r"<t[dh]>(.*?)</t[dh]>", row, re.S)]
        if own and own[0].startswith(first):
            return own
    raise AssertionError(f"no row {first!r}")


def test_the_funnel(folder: Path) -> None:
    text = page(read_data(folder))
    assert cells(text, "read")[2:] == ["9,300", "5.2 MB", "40 (0.428 %)", "0"]
    assert cells(text, "unicode")[4:] == ["0", "88"]
    assert cells(text, "near-duplicates")[2:] == ["6,300", "3.8 MB", "1,200 (16 %)", "0"]
    widths = [
        float(width) for width in re.findall(r'<span class="bar c0">(?:<i class="was".*?></i>)?<i style="width:([\d.]+)%"', text)
    ]
    assert widths[:3] == [100.0, 100.0, pytest.approx(100 * 8200 / 9300, abs=0.01)]
    assert cells(text, "near-duplicates near-duplicate")[2:] == ["1,200", "39.5 %"]
    assert cells(text, "unicode repaired Unicode")[2:] == ["88", "100 %"]


def test_sources_and_mixture(folder: Path) -> None:
    text = page(read_data(folder))
    assert cells(text, "Source")[4:] == ["Tokens", "dropped byread", "dropped bygopher", "dropped bynear-duplicates"]
    assert cells(text, "web &lt;b&gt;.jsonl.zst")[2:] == ["9,000", "9,000", "800k", "40", "700", "1,200"]
    assert cells(text, "books/")[2:5] == ["300", "750", "145k"]
    assert cells(text, "web")[0].startswith("web")
    assert cells(text[text.index("The mixture") :], "books") == ["books × 2.5", "", "800", "145k", "15.3 %"]


def test_distributions_and_vocabulary(folder: Path) -> None:
    outline = Outline(page(read_data(folder)))
    assert [tag for tag, _ in outline.tags].count("rect") == 4 + 3 + 3 + 3 + 2  # lengths, symbols, scores; read or seen, and kept
    assert [tag for tag, _ in outline.tags].count("svg") == 1 + 1 + 1 + 2 * 2
    for shown in (
        "English (en)", "Chinese, simplified (zh-Hans)", "French (fr)", "classifier: score; faint: dropped by it", "，⏎ 30k",
        "clusters", "400", "looked at",
        "8,000 (97.7 %)", "part of a character", " the 44k", "by document hash", ".png", "春眠不覺曉",
    ):  # fmt: skip
        assert shown in outline.text, shown
    assert "bands" not in outline.text.replace('"bands"', "")


def test_what_the_rules_did(folder: Path) -> None:
    text = page(read_data(folder))
    assert "<del>a caf<mark>Ã©</mark> in Paris</del>" in text and "<ins>a caf<mark>é</mark> in Paris</ins>" in text
    assert "web.jsonl/http://example.org/a:9" in text and "kept instead: books/a.txt/part &lt;1&gt;" in text
    assert text.count('<details class="rule" open>') == 4
    titles = re.findall(r'<details class="rule".*?<summary>(.*?)</summary>', text)
    assert [re.sub("<.*?>", "", title) for title in titles] == [
        "read not valid JSON dropped 40", "unicode repaired Unicode changed 88", "gopher mostly symbols dropped 700",
        "near-duplicates near-duplicate dropped 1,200",
    ]  # fmt: skip


def test_nothing_comes_from_outside_and_texts_are_escaped(folder: Path) -> None:
    text = page(read_data(folder))
    outline = Outline(text)
    assert not {tag for tag, _ in outline.tags} & {"script", "img", "link", "iframe", "object", "use", "base", "form"}
    for _, attributes in outline.tags:
        assert not {"src", "href", "srcset", "action"} & set(attributes)
        assert not any(name.startswith("on") for name in attributes)
    assert "default-src 'none'" in text and "<script" not in text
    assert outline.text.count(HOSTILE) == 3  # an excerpt, an entry never met, a remark


def test_chinese_labels(folder: Path) -> None:
    text = page(read_data(folder), "zh")
    assert '<html lang="zh-CN">' in text
    for shown in ("漏斗", "近似重复", "符号过多", "简体中文", "汉字", "按原因统计的删除"):
        assert shown in text, shown
    for english in ("The funnel", "Sources", "Dropped", "Vocabulary", "near-duplicate<", "mostly symbols", "Documents"):
        assert english not in re.sub(r"<details>.*?</details>", "", text, flags=re.S), english


def test_every_label_is_translated_and_used() -> None:
    source = "".join(Path(str(module.__file__)).read_text(encoding="utf-8") for module in (data_page, data_distributions))
    said = set(re.findall(r'\bt\("([^"]+)"\)', source)) | set(re.findall(r"\bt\('([^']+)'\)", source))
    assert said <= set(data_words.ZH), said - set(data_words.ZH)
    unused = {key for key in data_words.ZH if f'"{key}"' not in source and f"'{key}'" not in source}
    assert unused == {"train", "validation", "test"}


@pytest.mark.parametrize("part", sorted(manifest()))
def test_any_part_of_a_manifest_may_be_missing(tmp_path: Path, part: str) -> None:
    if part == "format":
        return
    for value in (None, [], "x", {"a": [1]}):
        folder = write_data(tmp_path / f"{part}-{value!s:.1}", **{part: value})
        Outline(page(read_data(folder)))


def test_a_folder_made_before_there_were_steps(tmp_path: Path) -> None:
    drops = {"repeated document": 300, "not valid JSON": 40}
    told = dict.fromkeys(("funnel", "histograms", "vocabulary", "mixture"))
    sources = [{"name": "a.jsonl", "kind": "jsonl", "documents": 6600, "tokens": 945_000, "rejected": 40}]
    text = page(read_data(write_data(tmp_path / "DATA", drops=drops, sources=sources, **told)))
    assert cells(text, "read")[2:] == ["6,600", "–", "40 (0.602 %)", "0"]
    assert cells(text, "repeats")[2:] == ["6,300", "3.8 MB", "300 (4.55 %)", "0"]
    assert cells(text, "a.jsonl")[5] == "40"
    assert "Distributions" not in text


def test_command_line(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert is_data(folder) and not is_data(tmp_path)
    assert cli.main(["report", str(folder)]) == 0
    assert capsys.readouterr().out.strip() == str(folder / "report.html")
    assert "The funnel" in (folder / "report.html").read_text(encoding="utf-8")
    assert cli.main(["report", str(folder), str(folder)]) == 2
    assert "a page of its own" in capsys.readouterr().err
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "manifest.json").write_text(json.dumps({"format": "something else"}))
    assert cli.main(["report", str(tmp_path / "other")]) == 2
    with pytest.raises(FileNotFoundError, match="genus prepare"):
        read_data(tmp_path / "other")


def test_histograms_of_nothing_and_of_one() -> None:
    assert histogram([], "x", "y") == "" and histogram([Bins([0, 1], [0])], "x", "y") == ""
    assert histogram([Bins([0, 1], [1, 2])], "x", "y") == ""
    assert histogram([Bins([5, 5], [3])], "x", "y").count("<rect") == 1
    assert histogram([Bins([1, 2, 1024], [3, 1])], "x", "y", log=True).count("<rect") == 2


def test_differences() -> None:
    assert marked("a <b>", "a <c>") == ("a &lt;<mark>b</mark>&gt;", "a &lt;<mark>c</mark>&gt;")
    before, after = marked("x" * 3000 + "old" + "y" * 9, "x" * 3000 + "new" + "y" * 9)
    assert before == "x" * 3000 + "<mark>old</mark>" + "y" * 9 and "<mark>new</mark>" in after
    assert marked("", "x") == ("", "<mark>x</mark>")


@pytest.mark.parametrize(("language", "width", "dark"), [("en", 1000, False), ("zh", 375, True)])
def test_a_browser_lays_it_out(browser: Any, folder: Path, tmp_path: Path, language: str, width: int, dark: bool) -> None:
    file = tmp_path / "page.html"
    file.write_text(page(read_data(folder), language), encoding="utf-8")
    browser.size(width, dark=dark)
    browser.open(file.as_uri())
    assert browser.run("document.documentElement.scrollWidth") <= width
    assert browser.run("[...document.querySelectorAll('svg')].every((e) => e.getBoundingClientRect().height > 100)")
    shown = browser.run("[...document.querySelectorAll('.bar > i:last-child')].map((e) => e.getBoundingClientRect().width)")
    assert max(shown) > 50 and shown[2] / shown[0] == pytest.approx(8200 / 9300, abs=0.02)
    assert not browser.problems
