"""Languages told by the model that comes with the package, and the two ways of writing Chinese."""

import gzip
import socket
from pathlib import Path

import pytest

from genus.prepare.batches import batches_of
from genus.prepare.items import Document
from genus.prepare.steps.glimpse import SPAN, glimpse
from genus.prepare.steps.language import Language
from genus.prepare.steps.step import Outcome

TEXTS = {
    "en": "The committee met on Tuesday to discuss the state of the old bridge.",
    "de": "Der Ausschuss traf sich am Dienstag, um über den Zustand der alten Brücke zu sprechen.",
    "fr": "Le comité s'est réuni mardi pour discuter de l'état du vieux pont.",
    "ru": "Комитет собрался во вторник, чтобы обсудить состояние старого моста.",
    "ja": "委員会は火曜日に集まり、古い橋の状態について話し合いました。",
    "ko": "위원회는 화요일에 모여 오래된 다리의 상태를 논의했다.",
    "zh-Hans": "星期二，委员会开会讨论了旧桥的状况。",
    "zh-Hant": "星期二，委員會開會討論了舊橋的狀況。",
    "zh": "山高水深，天上有日月。",
}


def run(step: Language, *documents: Document) -> Outcome:
    return step.ready()(next(batches_of(documents)))


def test_languages_are_found_without_a_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_network(*_: object) -> None:
        raise AssertionError("the network was used")

    monkeypatch.setattr(socket.socket, "connect", no_network)
    batch = run(Language(), *map(Document, TEXTS.values())).batch
    assert batch.column("language").to_pylist() == list(TEXTS)
    confidence = batch.column("language.confidence").to_pylist()
    assert all(0.5 <= each <= 1 for each in confidence)


def test_languages_that_are_not_wanted_are_dropped() -> None:
    outcome = run(Language(keep=("en", "zh")), *map(Document, TEXTS.values()))
    assert outcome.batch.column("language").to_pylist() == ["en", "zh-Hans", "zh-Hant", "zh"]
    assert {drop.reason for drop in outcome.drops} == {"another language"} and len(outcome.drops) == 5
    assert outcome.counts["language=de"] == 1
    simplified = run(Language(keep=("zh-Hans",)), *map(Document, TEXTS.values())).batch
    assert simplified.column("text").to_pylist() == [TEXTS["zh-Hans"]]


def test_what_is_not_clear_has_no_language() -> None:
    outcome = run(Language(minimum=0.999), Document("ok 123 :-)"), Document(TEXTS["zh-Hans"]))
    assert outcome.batch.column("language").to_pylist() == [None, "zh-Hans"] and outcome.counts["language=unknown"] == 1
    dropped = run(Language(keep=("en",), minimum=0.999), Document("ok 123 :-)"))
    assert [drop.reason for drop in dropped.drops] == ["language not clear"]


def test_what_the_reader_knew_is_not_asked_again() -> None:
    outcome = run(Language(), Document(TEXTS["en"], language="python"), Document(TEXTS["de"]))
    assert outcome.batch.column("language").to_pylist() == ["python", "de"]


def test_a_long_text_is_judged_by_samples_of_it() -> None:
    text = "a" * 5000 + "b" * 1000 + "c" * 5000
    assert glimpse(text) == "a" * SPAN + " " + "b" * SPAN + " " + "c" * SPAN
    assert glimpse("short") == "short"
    mixed = "12345 " * 300 + (TEXTS["de"] + "\n") * 100
    assert run(Language(), Document(mixed)).batch.column("language").to_pylist() == ["de"]


def test_capitals_do_not_confuse_it() -> None:
    assert run(Language(), Document(TEXTS["en"].upper())).batch.column("language").to_pylist() == ["en"]


def test_accuracy_on_a_mixed_set(shared_data: Path) -> None:
    with gzip.open(shared_data / "libreoffice_help_en_zh" / "en-zh.tsv.gz", "rt", encoding="utf-8") as file:
        sides = [line.rstrip("\n").split("\t")[:2] for line in file]
    english, chinese = ([side for side in column if len(side) >= 40][:300] for column in zip(*sides))
    found = run(Language(minimum=0.0), *map(Document, english), *map(Document, chinese)).batch.column("language").to_pylist()
    assert sum(each == "en" for each in found[:300]) >= 290
    assert sum(each == "zh-Hans" for each in found[300:]) >= 290
