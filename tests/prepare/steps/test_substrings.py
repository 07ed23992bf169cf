"""Repeated stretches: every one is left where it first stood, and cut everywhere else."""

from __future__ import annotations

import random
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from genus.prepare.batches import batches_of
from genus.prepare.items import Document
from genus.prepare.steps.step import Outcome
from genus.prepare.steps.substrings import Substrings
from genus.prepare.words import find_words


def run(step: Substrings, units: Iterable[list[str]], folder: Path) -> tuple[list[list[str]], list[Outcome], dict[str, Any]]:
    """Texts that are left of every unit, outcomes, facts."""
    batches = [next(batches_of(Document(text) for text in texts)) for texts in units]
    observed = [(unit, table) for unit, batch in enumerate(batches) if (table := step.observe(batch)) is not None]
    folder.mkdir(exist_ok=True)
    facts = step.decide(observed, folder, seed=0)
    outcomes = [step.apply(folder, unit)(batch) for unit, batch in enumerate(batches)]
    return [outcome.batch["text"].to_pylist() for outcome in outcomes], outcomes, facts


def words(count: int, seed: int) -> str:
    draw = random.Random(seed)
    return " ".join(f"w{draw.randrange(10**6)}" for _ in range(count))


NOTICE = words(60, 0)
A, B, C, D = (words(30, seed) for seed in range(1, 5))


def test_a_stretch_is_cut_after_its_first_occurrence(tmp_path):
    units = [[f"{A}\n\n{NOTICE}\n\n{B}", C], [f"{C} {NOTICE}", f"{NOTICE}\n{D}"]]
    left, outcomes, facts = run(Substrings(), units, tmp_path)
    assert left == [units[0], [f"{C} ", D]]
    assert facts == {"stretches": 2, "words cut": 120}
    changes = outcomes[1].changes
    assert [(change.row, change.reason) for change in changes] == [(0, "repeated stretch"), (1, "repeated stretch")]
    assert changes[1].before.startswith(NOTICE[:50]) and changes[1].after.startswith(D[:50])
    assert not outcomes[0].changes and not any(outcome.drops for outcome in outcomes)


def test_shorter_stretches_stay(tmp_path):
    short = " ".join(NOTICE.split()[:49])
    units = [[f"{A} {short} {B}", f"{C} {short} {D}"]]
    assert run(Substrings(), units, tmp_path / "a")[0] == units
    assert run(Substrings(length=49), units, tmp_path / "b")[0] == [[units[0][0], f"{C} {D}"]]


def test_white_space_does_not_count_but_case_and_punctuation_do(tmp_path):
    units = [[NOTICE, NOTICE.replace(" ", "\n\n") + " end", NOTICE.upper(), NOTICE.replace(" ", ", ")]]
    left, _, _ = run(Substrings(), units, tmp_path)
    assert left == [[NOTICE, "end", *units[0][2:]]]


def test_a_document_of_which_nothing_is_left_is_dropped(tmp_path):
    left, outcomes, _ = run(Substrings(), [[f"{A} {NOTICE}", NOTICE, B]], tmp_path)
    assert left == [[f"{A} {NOTICE}", B]]
    (drop,) = outcomes[0].drops
    assert (drop.row, drop.reason) == (1, "repeated stretch: nothing left") and drop.excerpt == NOTICE[:200]


def test_chinese_counts_characters(tmp_path):
    draw = random.Random(3)
    first, second, notice = ("".join(chr(draw.randrange(0x4E00, 0x9000)) for _ in range(count)) for count in (40, 40, 60))
    left, _, _ = run(Substrings(), [[f"{first}{notice}", f"{second}{notice}。{second}"]], tmp_path)
    assert left == [[f"{first}{notice}", f"{second}。{second}"]]


def test_a_text_that_repeats_itself_keeps_one_round(tmp_path):
    left, _, _ = run(Substrings(), [[f"{NOTICE} " * 4 + A, "la " * 200]], tmp_path)
    assert left == [[f"{NOTICE} {A}", "la "]]


def test_the_same_words_are_cut_as_by_comparing_all_with_all(tmp_path):
    draw = random.Random(8)
    pieces = [words(draw.randrange(5, 90), seed) for seed in range(12)]
    units = [[" ".join(draw.choice(pieces) for _ in range(draw.randrange(1, 6))) for _ in range(20)] for _ in range(3)]
    expected, seen = [], set()
    for text in (text for texts in units for text in texts):
        of = text.split()
        cut = [False] * len(of)
        for i in range(len(of) - 19):
            stretch = tuple(of[i : i + 20])
            if stretch in seen:
                cut[i : i + 20] = [True] * 20
            seen.add(stretch)
        expected.append([word for word, gone in zip(of, cut) if not gone])
    left, outcomes, facts = run(Substrings(length=20), units, tmp_path)
    assert [text.split() for texts in left for text in texts] == [of for of in expected if of]
    assert len({word for of in expected for word in of}) == len({word for piece in pieces for word in piece.split()})
    assert facts["words cut"] == sum(len(text.split()) for texts in units for text in texts) - sum(map(len, expected)) > 1000
    assert sum(len(outcome.drops) for outcome in outcomes) == expected.count([]) > 5


def test_batches_of_a_unit_do_not_matter(tmp_path):
    texts = [f"{words(20, i)} {NOTICE} {words(i % 3 * 40, 7)}" for i in range(20)]
    step = Substrings()
    batch = next(batches_of(Document(text) for text in texts))
    parts = [batch.slice(0, 3), batch.slice(3, 16), batch.slice(19)]
    observed = [(0, pa.concat_tables([step.observe(part) for part in parts]))]
    step.decide(observed, tmp_path, 0)
    function = step.apply(tmp_path, 0)
    left = [text for part in parts for text in function(part).batch["text"].to_pylist()]
    (tmp_path / "whole").mkdir()
    assert left == run(step, [texts], tmp_path / "whole")[0][0] != texts


def test_nothing_to_observe(tmp_path):
    batch = next(batches_of([Document("short"), Document("")]))
    assert Substrings().observe(batch) is None
    assert Substrings().decide([], tmp_path, 0) == {"stretches": 0, "words cut": 0}
    assert Substrings().apply(tmp_path, 0)(batch).batch.equals(batch)


def test_an_absurd_length_is_refused():
    with pytest.raises(ValueError, match="50 is usual"):
        Substrings(length=1)


def test_real_text_is_cut_to_the_letter(shared_data, tmp_path):
    text = (shared_data / "wikitext2_valid_test" / "test.txt").read_text(encoding="utf-8")[:60_000]
    stolen = text[20_000:23_000]
    left, outcomes, _ = run(Substrings(), [[text, f"Before. {stolen} After."]], tmp_path)
    assert left[0][0] == text
    assert len(left[0][1]) < 40 and left[0][1].startswith("Before. ") and left[0][1].endswith("After.")
    assert len(find_words(outcomes[0].batch["text"], exact=True).hashes) > 10_000
