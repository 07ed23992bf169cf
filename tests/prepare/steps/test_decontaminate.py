"""What an evaluation set holds is found in other texts, whatever the case and the punctuation, and nothing else is."""

import gzip
import json
import random
import re
from pathlib import Path

import pytest

from genus.prepare import prepare
from genus.prepare.batches import batches_of
from genus.prepare.evaluation_sets import Index, texts_of
from genus.prepare.items import Document
from genus.prepare.steps.decontaminate import AROUND, CUT, REASON, Decontaminate, merged, without
from genus.prepare.steps.step import Outcome

QUESTION = "Which of the seven sisters first learnt how the old lighthouse keeper had lost his left hand in the storm?"
SHORT = "The quick brown fox jumps over lazy dogs"  # eight words
CHINESE = "床前明月光，疑是地上霜。举头望明月，低头思故乡。"


def run(step: Decontaminate, *texts: str) -> Outcome:
    return step.ready()(next(batches_of(map(Document, texts))))


@pytest.fixture
def sets(tmp_path: Path) -> tuple[str, ...]:
    (tmp_path / "test.jsonl").write_text(
        "".join(
            json.dumps({"question": q, "answers": {"text": ["the eldest"]}, "id": i}) + "\n"
            for i, q in enumerate([QUESTION, SHORT])
        ),
        encoding="utf-8",
    )
    (tmp_path / "poem.txt").write_text(CHINESE, encoding="utf-8")
    return str(tmp_path / "test.jsonl"), str(tmp_path / "poem.txt")


def test_documents_are_left_out(sets: tuple[str, ...]) -> None:
    hit = "Quiz: WHICH of the seven sisters, first, learnt how the old   lighthouse-keeper had 'lost' his right hand?"
    short = "they say: the QUICK brown fox -- jumps over lazy dogs!"
    chinese = "他写道：床前明月光疑是地上霜举头望明月。"
    clean = [
        "Which of the seven sisters first learnt how the old lighthouse burnt down?",  # twelve words of it
        "The quick brown fox jumps over a lazy dog",
        "床前明月光，疑是地上。",
        "the eldest",
        "",
    ]
    outcome = run(Decontaminate(sets), hit, *clean, short, chinese)
    assert outcome.batch.column("text").to_pylist() == clean
    assert [(drop.row, drop.reason) for drop in outcome.drops] == [(0, REASON), (6, REASON), (7, REASON)]
    assert outcome.drops[0].excerpt.startswith("Quiz: WHICH")
    assert outcome.counts == {f"of {sets[0]}": 2, f"of {sets[1]}": 1}


def test_the_excerpt_shows_the_overlap(sets: tuple[str, ...]) -> None:
    long = "é ” 汉 word " * 3000
    (drop,) = run(Decontaminate(sets), long + QUESTION + long).drops
    assert drop.excerpt.startswith("…") and QUESTION in drop.excerpt


def test_runs_do_not_cross_documents(sets: tuple[str, ...]) -> None:
    words = QUESTION.split()
    outcome = run(Decontaminate(sets), " ".join(words[:10]), " ".join(words[10:]))
    assert not outcome.drops


def test_lengths_are_settings(sets: tuple[str, ...]) -> None:
    seven = "seven sisters first learnt how the old"
    assert not run(Decontaminate(sets), seven).drops
    assert run(Decontaminate(sets, words=7, shortest=7), seven).drops
    assert not run(Decontaminate(sets, shortest=9), SHORT).drops
    with pytest.raises(ValueError, match="shortest <= words"):
        Decontaminate(sets, words=5)
    with pytest.raises(ValueError, match="name the evaluation sets"):
        Decontaminate().reads()
    with pytest.raises(ValueError, match="name the evaluation sets"):
        Decontaminate().ready()


def test_fields_are_chosen(tmp_path: Path) -> None:
    path = tmp_path / "sets.jsonl"
    path.write_text(
        json.dumps({"question": QUESTION, "context": "An article of an encyclopedia of which every word is known to all."})
    )
    article = "Read: An article of an encyclopedia of which every word is known to all."
    assert run(Decontaminate((str(path),)), article).drops
    assert not run(Decontaminate((str(path),), fields=("question",)), article).drops


def test_the_stretch_is_cut_out(sets: tuple[str, ...]) -> None:
    before, after = "before one two. " * 60, "after three four. " * 60
    outcome = run(Decontaminate(sets, remove="stretch"), before + QUESTION + " " + after, "clean")
    (text, clean) = outcome.batch.column("text").to_pylist()
    left, right = text.split("\n\n")
    assert before.startswith(left) and after.rstrip().endswith(right) and clean == "clean"
    assert len(left) == pytest.approx(len(before) - AROUND, abs=20) and len(right) == pytest.approx(len(after) - AROUND, abs=20)
    assert [change.reason for change in outcome.changes] == [CUT]
    assert run(Decontaminate(sets, remove="stretch"), "too short to be cut: " + QUESTION).drops[0].reason == REASON


def test_a_document_in_many_pieces_is_left_out(sets: tuple[str, ...]) -> None:
    filler = "one two three four five six seven. " * 40
    assert run(Decontaminate(sets, remove="stretch"), (filler + QUESTION + " ") * 8 + filler).changes
    assert run(Decontaminate(sets, remove="stretch"), (filler + QUESTION + " ") * 12 + filler).drops


def test_words_are_not_cut_in_two() -> None:
    text = "alpha " * 100 + "X" + " omega" * 100
    left, right = (without(text, [(600, 601)]) or "").split("\n\n")
    assert set(left.split()) == {"alpha"} and set(right.split()) == {"omega"}
    assert merged([(0, 5), (3, 4), (5, 9), (11, 12)]) == [(0, 9), (11, 12)]


def test_pairs_go_as_a_whole(sets: tuple[str, ...]) -> None:
    step = Decontaminate(sets, remove="stretch")
    batch = next(batches_of([Document("ein Satz", source=QUESTION), Document("b", source="c")], pairs=True))
    outcome = step.ready()(batch)
    assert outcome.batch.column("text").to_pylist() == ["b"] and len(outcome.drops) == 1


def test_prepared_folders_and_splits(tmp_path: Path) -> None:
    lines = [
        f"line {i} of a corpus in which the number {i * 7919} is written down twice, once more {i * 7919}" for i in range(300)
    ]
    (tmp_path / "in.txt").write_text("\n".join(lines), encoding="utf-8")
    data = prepare(tmp_path / "in.txt", tmp_path / "DATA", split_documents="line", tokenizer="bytes")
    held = set(texts_of(tmp_path / "DATA"))
    assert len(held) == data.split("validation").documents + data.split("test").documents > 0
    outcome = run(Decontaminate((str(tmp_path / "DATA"),)), *lines)
    assert set(outcome.batch.column("text").to_pylist()) == set(lines) - held
    for name in ("train", "test"):
        (tmp_path / "sets").mkdir(exist_ok=True)
        (tmp_path / "sets" / f"{name}.csv").write_text(f"text\n{name} text\n", encoding="utf-8")
    assert list(texts_of(tmp_path / "sets")) == ["test text"]


def test_sets_that_hold_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("too short", encoding="utf-8")
    with pytest.raises(ValueError, match=r"1 texts .* none of 8 words or more"):
        Decontaminate((str(tmp_path / "a.txt"),)).ready()
    with pytest.raises(ValueError, match=r"nowhere\.txt"):
        Decontaminate((str(tmp_path / "nowhere.txt"),)).ready()


@pytest.mark.parametrize("language", ["en", "zh"])
def test_planted_overlaps_in_real_text(language: str, shared_data: Path) -> None:
    """Of 250 stretches planted in real paragraphs all are found; of the others only true repeats."""
    with gzip.open(shared_data / "libreoffice_help_en_zh" / "en-zh.tsv.gz", "rt", encoding="utf-8") as file:
        lines = [line.rstrip("\n").split("\t")[language == "zh"] for line in file]
    if language == "zh":
        lines = re.findall("[\u4e00-\u9fff，。、；：]{40,}", "\n".join(lines))
    dice = random.Random(2)
    blank = " " if language == "en" else ""
    long = sorted({line for line in lines if language == "zh" or len(line.split()) >= 40})
    dice.shuffle(long)
    held, rest = long[:300], long[300:1300]
    index = Index.build([("held", held)], 13, 8)
    texts, planted = [], []
    for number, line in enumerate(rest):
        planted.append(number % 4 == 0)
        if planted[-1]:
            other = dice.choice(held).upper().replace("，", "")
            parts = other.split() if language == "en" else list(other)
            at = dice.randrange(max(1, len(parts) - 25))
            line = f"{line}\n{blank.join(parts[at : at + 25])}"
        texts.append(line)
    assert len(texts) >= 500
    found = set(index.repeats(next(batches_of(map(Document, texts))).column("text")).texts.tolist())
    joined = ["".join(c for c in line.lower() if c.isalnum()) for line in held]
    assert all(number in found for number, each in enumerate(planted) if each)
    for number in found:
        if not planted[number]:  # help pages repeat themselves
            plain = "".join(c for c in texts[number].lower() if c.isalnum())
            assert any(plain[i : i + 13] in line for i in range(len(plain) - 12) for line in joined)
