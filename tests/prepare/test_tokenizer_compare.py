"""Tokenizers side by side: figures that can be checked by hand, by language and source, whatever the tokenizer."""

import json
from pathlib import Path

import pytest
from tokenizers import Tokenizer as Core
from tokenizers import models, normalizers, pre_tokenizers

from genus.prepare.texts import Text
from genus.prepare.tokenizer import build
from genus.prepare.tokenizer_compare import WORD, compare, table

TEXTS = [
    Text("a.txt", "the cat and the dog, e-mail", "en"),
    Text("a.txt", "the end", "en"),
    Text("b.txt", "明月光 the", "zh-Hans"),
]


@pytest.fixture
def folders(tmp_path: Path) -> list[str]:
    build("bytes", [], 0).save(tmp_path / "bytes")
    build("chars", ["the cat明月"], 0).save(tmp_path / "chars")
    return [str(tmp_path / "bytes"), str(tmp_path / "chars")]


def test_words() -> None:
    assert WORD.findall("don't e-mail 3.14, 明月 ok_go\n—") == ["don't", "e-mail", "3.14", "明", "月", "ok", "go"]


def test_figures_by_language_and_source(folders: list[str]) -> None:
    rows = {(row["by"], row["group"]): row for row in compare(folders, TEXTS).to_json()["rows"]}
    assert set(rows) == {
        ("all", "all"), ("language", "en"), ("language", "zh-Hans"), ("source", "a.txt"), ("source", "b.txt"),
    }  # fmt: skip
    chinese = rows["language", "zh-Hans"]
    assert (chinese["documents"], chinese["bytes"], chinese["characters"], chinese["words"]) == (1, 13, 7, 4)
    assert [each["tokens"] for each in chinese["tokenizers"]] == [13, 2 + 3 + 4]  # 光 is three bytes to the characters
    assert chinese["tokenizers"][1]["characters_per_token"] == 7 / 9
    assert chinese["tokenizers"][0]["tokens_per_word"] == 13 / 4
    whole = rows["all", "all"]
    assert whole["bytes"] == 27 + 7 + 13 and whole["words"] == 6 + 2 + 4
    for by in ("language", "source"):
        parts = [row for row in rows.values() if row["by"] == by]
        for i in (0, 1):
            assert sum(row["tokenizers"][i]["tokens"] for row in parts) == whole["tokenizers"][i]["tokens"]


def test_a_peer_without_special_tokens_that_loses_something(tmp_path: Path, folders: list[str]) -> None:
    core = Core(models.WordLevel({"[UNK]": 0, "the": 1, "cat": 2}, unk_token="[UNK]"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    core.normalizer = normalizers.Lowercase()
    core.save(str(tmp_path / "peer.json"))
    found = compare([*folders, tmp_path / "peer.json"], TEXTS)
    own = found.figures[2]["all"]["all"]
    assert own.unknown == own.tokens - 5 and own.changed == 3
    assert found.figures[0]["all"]["all"].changed == 0
    text = table(found)
    assert "unknown tokens: 8" in text and "3 texts do not come back" in text and "every text comes back" in text


def test_the_table(folders: list[str]) -> None:
    lines = table(compare(folders, TEXTS)).splitlines()
    assert lines[0].startswith("3 texts: 47 bytes, 41 characters, 12 words")
    assert lines[1].startswith(f"A  {folders[0]}: BPE, 257 entries")
    start = next(i for i, line in enumerate(lines) if line.startswith("characters per token"))
    assert lines[start].split()[-2:] == ["A", "B"]
    (chinese,) = (line for line in lines[start + 1 : start + 6] if line.startswith("  language zh-Hans"))
    assert chinese.split()[-2:] == ["0.54", "0.78"]
    relative = next(line for line in lines if line.startswith("all"))
    assert relative.split()[1] == "1.000"


def test_a_single_source_has_no_line(folders: list[str]) -> None:
    text = table(compare(folders, TEXTS[:2]))
    assert "source a.txt" not in text and "language en" in text


def test_text_without_words(folders: list[str]) -> None:
    found = compare(folders, [Text("a", "…—", "?")])
    assert found.to_json()["rows"][0]["tokenizers"][0]["tokens_per_word"] is None
    assert "–" in table(found)


def test_a_real_peer(shared_data: Path, folders: list[str]) -> None:
    found = compare([*folders, shared_data / "stories260K" / "hf"], [Text("s", "Once upon a time there was a cat.", "en")])
    own = found.figures[2]["all"]["all"]
    assert own.changed == 0 and own.tokens < found.figures[0]["all"]["all"].tokens / 2
    assert json.loads(json.dumps(found.to_json()))["tokenizers"][2]["entries"] == 512


def test_what_is_no_tokenizer(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no tokenizer at"):
        compare([tmp_path / "x"], TEXTS)
    (tmp_path / "y.json").write_text("{}")
    with pytest.raises(ValueError, match="not a tokenizer"):
        compare([tmp_path / "y.json"], TEXTS)
