"""A Chinese page shows what its English page shows: the same commands and the same output, and links that lead somewhere."""

import re
import tomllib
from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGES = sorted(DOCS.glob("*.zh.md"))
PAIRS = [
    (page, page.with_name(page.name.replace(".zh.md", ".md")))
    for page in PAGES
    if page.name not in ("quickstart.zh.md", "family-tree.zh.md")  # run by themselves; made by a script
]
BLOCK = re.compile(r"^(?:<!-- not run: [^>]+ -->\n+)?```.*?^```$", re.M | re.S)  # with or without a language
LINK = re.compile(r"\]\(([^)#:]+\.md)")
HEADING = re.compile(r"^#+ ", re.M)


@pytest.mark.parametrize(("chinese", "english"), PAIRS, ids=lambda page: page.name)
def test_a_page_and_its_translation(chinese: Path, english: Path) -> None:
    ours, theirs = (page.read_text(encoding="utf-8") for page in (chinese, english))
    assert BLOCK.findall(ours) == BLOCK.findall(theirs)
    assert len(HEADING.findall(BLOCK.sub("", ours))) == len(HEADING.findall(BLOCK.sub("", theirs)))
    assert ours.count("\n|") == theirs.count("\n|"), "tables of different length"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_chinese_pages_where_there_are_some(page: Path) -> None:
    for link in LINK.findall(page.read_text(encoding="utf-8")):
        assert (DOCS / link).is_file(), link
        assert link.endswith(".zh.md") or not (DOCS / link).with_suffix(".zh.md").exists(), f"{link} has a Chinese page"


def test_navigation_has_every_page_once() -> None:
    text = (DOCS.parent / "zensical.toml").read_text(encoding="utf-8")
    listed = [
        page
        for entry in tomllib.loads(text)["project"]["nav"]
        for place in entry.values()
        for page in ([place] if isinstance(place, str) else [name for item in place for name in item.values()])
    ]
    assert sorted(listed) == sorted(page.name for page in DOCS.glob("*.md"))
