"""A Chinese page shows what its English page shows: the same commands and the same output, and links that lead somewhere."""

import re
from pathlib import Path

import pytest

from .conftest import FENCE

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAIRS = [
    (page, page.with_name(page.name.replace(".zh.md", ".md")))
    for page in sorted(DOCS.glob("*.zh.md"))
    if page.name not in ("quickstart.zh.md", "family-tree.zh.md")  # run by themselves; made by a script
]
LINK = re.compile(r"\]\(([^)#]+\.md)")
HEADING = re.compile(r"^#+ ", re.M)


@pytest.mark.parametrize(("chinese", "english"), PAIRS, ids=lambda page: page.name)
def test_a_page_and_its_translation(chinese: Path, english: Path) -> None:
    ours, theirs = (page.read_text(encoding="utf-8") for page in (chinese, english))
    assert [m["code"] for m in FENCE.finditer(ours)] == [m["code"] for m in FENCE.finditer(theirs)]
    assert len(HEADING.findall(FENCE.sub("", ours))) == len(HEADING.findall(FENCE.sub("", theirs)))
    assert ours.count("\n|") == theirs.count("\n|"), "tables of different length"
    for link in LINK.findall(ours):
        assert (DOCS / link).is_file(), link
