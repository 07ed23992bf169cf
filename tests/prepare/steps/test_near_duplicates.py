"""Near-duplicates: what is found, which one stays, and what is told of it."""

from __future__ import annotations

import random
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from genus.prepare.batches import batches_of
from genus.prepare.items import Document
from genus.prepare.minhash import chance
from genus.prepare.steps import near_duplicates
from genus.prepare.steps.near_duplicates import NearDuplicates
from genus.prepare.steps.step import Drop, Place, set_column


def run(
    step: NearDuplicates, units: Iterable[list[str]], folder: Path, scores: list[list[float | None]] | None = None
) -> tuple[list[list[str]], list[list[Drop]], dict[str, Any]]:
    """Texts that are left of every unit, drops, facts."""
    batches = [
        next(batches_of(Document(text, line=i + 1, name=f"page {i + 1}") for i, text in enumerate(texts))) for texts in units
    ]
    if scores:
        batches = [set_column(batch, "classifier", values) for batch, values in zip(batches, scores)]
    observed = [(unit, table) for unit, batch in enumerate(batches) if (table := step.observe(batch)) is not None]
    folder.mkdir(exist_ok=True)
    facts = step.decide(observed, folder, seed=0)
    outcomes = [step.apply(folder, unit)(batch) for unit, batch in enumerate(batches)]
    assert all(not outcome.changes for outcome in outcomes)
    return [outcome.batch["text"].to_pylist() for outcome in outcomes], [outcome.drops for outcome in outcomes], facts


def words(count: int, seed: int) -> list[str]:
    draw = random.Random(seed)
    return [f"w{draw.randrange(10_000)}" for _ in range(count)]


def edited(of: list[str], at: Iterable[int]) -> str:
    changed = list(of)
    for place in at:
        changed[place] = "changed"
    return " ".join(changed)


STORY = words(200, 1)
OTHERS = [" ".join(words(200, seed)) for seed in range(2, 40)]


def test_of_documents_that_differ_in_a_few_words_the_longest_stays(tmp_path):
    short, long = edited(STORY, [20]), edited(STORY, [90]) + " and an end"
    left, drops, facts = run(NearDuplicates(), [[short, *OTHERS[:20]], [*OTHERS[20:], long, " ".join(STORY)]], tmp_path)
    assert left == [OTHERS[:20], [*OTHERS[20:], long]]
    place = Place(unit=1, part=0, line=19, name="page 19")
    assert [[(drop.row, drop.reason, drop.instead) for drop in each] for each in drops] == [
        [(0, "near-duplicate", place)],
        [(19, "near-duplicate", place)],
    ]
    assert drops[0][0].excerpt.startswith(short[:50])
    assert {"groups": 1, "largest group": 3, "bands": 14, "rows": 8}.items() <= facts.items()


def test_the_first_or_the_highest_score_stays(tmp_path):
    units = [[edited(STORY, [20]), "nothing like it"], [" ".join(STORY) + " more", edited(STORY, [99]), edited(STORY, [150])]]
    left, _, _ = run(NearDuplicates(keep="first"), units, tmp_path / "a")
    assert left == [units[0], []]
    scores = [[None, 0.9], [0.1, 0.7, 0.7]]
    left, _, _ = run(NearDuplicates(keep="classifier"), units, tmp_path / "b", scores)
    assert left == [["nothing like it"], [units[1][1]]]  # equal scores: the first of them
    with pytest.raises(ValueError, match=r"keep=clasifier.*choose one of longest, first, classifier"):
        run(NearDuplicates(keep="clasifier"), units, tmp_path / "c", scores)


def test_chains_are_one_group(tmp_path):
    chain = [edited(STORY, range(0, 4 * i, 4)) for i in range(0, 12, 2)]  # the ends have little in common
    left, _, facts = run(NearDuplicates(keep="first"), [chain, OTHERS], tmp_path)
    assert left == [chain[:1], OTHERS] and facts["largest group"] == len(chain)


def test_chinese_needs_no_spaces(tmp_path):
    draw = random.Random(5)
    signs = [chr(draw.randrange(0x4E00, 0x9000)) for _ in range(200)]
    other = "".join(chr(draw.randrange(0x4E00, 0x9000)) for _ in range(200))
    near = "".join(signs[:100]) + "改" + "".join(signs[101:])
    left, drops, _ = run(NearDuplicates(), [["".join(signs), other, near]], tmp_path)
    assert left == [["".join(signs), other]] and [drop.row for drop in drops[0]] == [2]


def test_short_texts_are_alike_when_their_words_are(tmp_path):
    left, _, _ = run(NearDuplicates(keep="first"), [["Good morning!", "good morning", "good evening", "...", "!!!"]], tmp_path)
    assert left == [["Good morning!", "good evening", "...", "!!!"]]  # without words there is nothing to compare


def test_pairs_are_found_as_often_as_the_curve_says(tmp_path):
    pairs, changes = 300, [20, 80, 140]  # three words changed spoil 15 of 196 shingles
    similarity = 181 / (196 + 15)
    units = [[" ".join(words(200, 100 + i)) for i in range(pairs)], [edited(words(200, 100 + i), changes) for i in range(pairs)]]
    step = NearDuplicates(threshold=0.9, keep="first")
    _, drops, facts = run(step, units, tmp_path)
    expected = chance(similarity, *step.bands)
    assert 0.5 < expected < 0.95
    assert len(drops[1]) / pairs == pytest.approx(expected, abs=0.08)
    assert not drops[0] and facts["groups"] == len(drops[1])


def test_verified_pairs_are_not_below_the_threshold(tmp_path):
    pairs = 300
    units = [[" ".join(words(200, 100 + i)) for i in range(pairs)], []]
    units[1] = [edited(words(200, 100 + i), range(0, 200, 25)) for i in range(pairs)]  # similarity 0.65
    loose = run(NearDuplicates(keep="first"), units, tmp_path / "loose")[1][1]
    strict = run(NearDuplicates(keep="first", verify=True), units, tmp_path / "strict")[1][1]
    assert len(loose) > 60 and len(strict) < 3
    exact = [[*units[0], *units[0]]]
    assert len(run(NearDuplicates(verify=True), exact, tmp_path / "exact")[1][0]) == pairs
    assert not list((tmp_path / "exact").glob("signatures"))


def test_batches_and_portions_do_not_matter(tmp_path, monkeypatch):
    texts = [edited(words(60, i % 40), [i % 7, 30]) for i in range(160)]
    whole = run(NearDuplicates(), [texts], tmp_path / "a")[0][0]
    apart = run(NearDuplicates(), [[text] for text in texts], tmp_path / "b")[0]
    monkeypatch.setattr(near_duplicates, "PAIRS_AT_ONCE", 3)
    portions = run(NearDuplicates(), [texts[:77], texts[77:]], tmp_path / "c")[0]
    assert whole == [text for each in apart for text in each] == [text for each in portions for text in each]
    assert len(whole) < 100


def test_the_seed_decides_and_nothing_else(tmp_path):
    batch = next(batches_of(Document(text) for text in OTHERS))
    again, other = (NearDuplicates(seed=seed).observe(batch) for seed in (0, 1))
    assert NearDuplicates(seed=0).observe(batch).equals(again) and not other.equals(again)


def test_nothing_to_observe(tmp_path):
    assert NearDuplicates().observe(next(batches_of([Document("..."), Document("?")]))) is None
    assert NearDuplicates().decide([], tmp_path, 0)["groups"] == 0
    batch = next(batches_of([Document("...")]))
    assert NearDuplicates().apply(tmp_path, 0)(batch).batch.equals(batch)


def test_what_is_observed_is_small():
    batch = next(batches_of(Document(text) for text in OTHERS))
    table = NearDuplicates().observe(batch)
    assert isinstance(table, pa.Table) and table.nbytes <= len(OTHERS) * (14 * 8 + 8 + 4 + 8 + 8 + 4) + 100


@pytest.mark.parametrize("settings", [{"threshold": 1.0}, {"threshold": 0}, {"shingle": 0}, {"hashes": 0}])
def test_absurd_settings_are_refused(settings):
    with pytest.raises(ValueError, match="near-duplicates"):
        NearDuplicates(**settings)
