"""Every command and every piece of Python in the documents runs."""

from collections.abc import Callable
from pathlib import Path

import pytest

from genus.cli import verbs

ROOT = Path(__file__).resolve().parents[2]
FRESH = [ROOT / "README.md", ROOT / "README.zh-CN.md", ROOT / "docs" / "quickstart.zh.md"]
ELSEWHERE = {ROOT / "docs" / "quickstart.md", *FRESH, *(ROOT / "docs").glob("*.zh.md")}  # translations: test_chinese.py
PAGES = [*FRESH, *sorted(set((ROOT / "docs").glob("*.md")) - ELSEWHERE)]


def test_quickstart(after_quickstart: Path) -> None:
    """All that the other pages begin with is there."""
    for path in ("texts", "data/manifest.json", "runs/llama/run.json", "runs/ngram/run.json", "llama-hf/config.json"):
        assert (after_quickstart / path).exists()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_page(page: Path, reader: Callable) -> None:
    reader(page, page in FRESH).read()


def test_every_verb_has_its_page() -> None:
    for verb in verbs():
        page = {"import": "export", "demo": "quickstart", "predict": "tune"}.get(verb, verb.split()[0])
        text = (ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8")
        assert f"genus {verb}" in text, f"docs/{page}.md does not show genus {verb}"
