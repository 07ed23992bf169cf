"""Gopher's quality rules: each drops what it names, none touches good English or Chinese."""

import gzip
import re
from pathlib import Path

import pytest

from genus.prepare.batches import batches_of
from genus.prepare.items import Document
from genus.prepare.steps.gopher import Gopher

PROSE = (
    "The committee met on Tuesday to discuss the state of the old bridge, and it was agreed that the work should begin in "
    "spring. Nobody could say with certainty what the repairs would cost; the engineers have promised an estimate by the end of "
    "the month. Until then, visitors are asked to be careful and to walk on the left side."
)
GERMAN = (
    "Der Ausschuss traf sich am Dienstag, um über den Zustand der alten Brücke zu sprechen, und man einigte sich darauf, "
    "dass die Arbeiten im Frühjahr beginnen sollen. Niemand konnte sagen, was die Ausbesserung kosten wird; die Ingenieure "
    "haben bis zum Ende des Monats eine Schätzung versprochen. Bis dahin werden Besucher gebeten, vorsichtig zu sein und auf "
    "der linken Seite zu gehen."
)
CHINESE = "星期二，委员会开会讨论了旧桥的状况，一致同意工程在春天开始。没有人能确切地说出修理要花多少钱。"


def judge(*texts: str, language: str | None = None, **settings: object) -> list[str | None]:
    batch = next(batches_of(Document(text, language=language) for text in texts))
    reasons = {drop.row: drop.reason for drop in Gopher(**settings).ready()(batch).drops}  # type: ignore[arg-type]
    return [reasons.get(i) for i in range(len(texts))]


def lines(text: str, size: int = 8) -> list[str]:
    words = text.split()
    return [" ".join(words[i : i + size]) for i in range(0, len(words), size)]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (PROSE, None),
        (CHINESE, None),
        (CHINESE * 50, None),
        ("The end of the story, and that is it.", "too few words"),
        (PROSE * 3000, "too many words"),
        ("a b c d e f g " * 20, "short words"),
        (PROSE.replace(" ", "") + " " + " ".join(["internationalisation"] * 60), "long words"),
        (PROSE + " #tag" * 10, "many hash signs"),
        (PROSE.replace(". ", "... ") + "..." + " so ..." * 9, "many ellipses"),
        ("\n".join("• " + line for line in lines(PROSE)), "mostly bullet points"),
        ("\n".join(line + ("…" if i % 2 else "") for i, line in enumerate(lines(PROSE, 14))), "lines that break off"),
        (PROSE + " 12 345 6789" * 12, "few words with letters"),
        (GERMAN, "no English function words"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_each_rule_drops_what_it_names(text: str, reason: str | None) -> None:
    assert judge(text) == [reason]


def test_the_rule_of_english_words_asks_for_the_language() -> None:
    assert judge(GERMAN, language="de") == [None]
    assert judge(GERMAN, language="en") == ["no English function words"]
    russian = " ".join(["Комитет собрался во вторник, чтобы обсудить состояние старого моста и начало работ весной."] * 6)
    assert judge(russian) == [None]
    assert judge(GERMAN, stop_words=0) == [None]


def test_thresholds_are_the_fields() -> None:
    assert judge("Short but good: the end of it.", minimum_words=3) == [None]
    assert judge(PROSE + " #tag" * 10, symbols=0.3) == [None]
    assert judge(PROSE, minimum_words=len(PROSE.split())) == [None]
    assert judge(PROSE, minimum_words=len(PROSE.split()) + 1) == ["too few words"]


def test_real_articles_and_reviews_stay(shared_data: Path) -> None:
    text = (shared_data / "wikitext2_valid_test" / "valid.txt").read_text(encoding="utf-8")
    text = re.sub(r" ([.,;:)])| @([-.,])@ ", r"\1\2", text)  # the words are kept apart from their punctuation there
    articles = [text[i : i + 6000] for i in range(0, 300_000, 6000)]
    assert judge(*articles).count(None) >= 0.95 * len(articles)
    with gzip.open(shared_data / "chinese_reviews" / "ChnSentiCorp_htl_all.csv.gz", "rt", encoding="utf-8-sig") as file:
        reviews = [line.partition(",")[2] for line in file.read().splitlines()[1:401]]
    reasons = judge(*reviews)
    assert sum(each in ("too few words", "long words", "no English function words") for each in reasons) <= 0.01 * len(reviews)
    assert reasons.count(None) >= 0.95 * len(reviews)
