"""The split rule: by hash, by rank, by position; repeats; ready-made splits."""

import numpy as np
import pytest

from genus.prepare.splits import CUT, REPEAT, TEST, TRAIN, VALIDATION, Documents, Fractions, assign

HALF = Fractions(0.05, 0.05)


def documents(count: int, seed: int = 0, characters: int = 100) -> Documents:
    digests = np.random.default_rng(seed).integers(0, 2**64, size=(count, 2), dtype=np.uint64)
    return Documents(digests, np.full(count, characters), np.ones(count, dtype=bool), np.full(count, -1, dtype=np.int8))


def test_many_documents_by_hash_and_adding_moves_no_other() -> None:
    known = documents(4000)
    result = assign(known, HALF)
    assert "hash" in result.rule and not result.cuts
    shares = np.bincount(result.verdicts, minlength=3) / 4000
    assert abs(shares[VALIDATION] - 0.05) < 0.02 and abs(shares[TEST] - 0.05) < 0.02
    fewer = Documents(*(getattr(known, name)[:3000] for name in ("digests", "characters", "starts", "given")))
    assert np.array_equal(assign(fewer, HALF).verdicts, result.verdicts[:3000])


def test_some_documents_by_rank_have_exact_shares() -> None:
    for count in (20, 37, 199):
        result = assign(documents(count, seed=count), HALF)
        assert "rank" in result.rule
        assert (result.verdicts == VALIDATION).sum() == (result.verdicts == TEST).sum() == max(1, round(0.05 * count))


def test_few_documents_are_cut_by_position() -> None:
    result = assign(documents(1, characters=1_115_394), Fractions(0.1, 0))
    assert result.verdicts.tolist() == [CUT] and result.cuts == {0: (1_003_854, 1_115_394)}  # nanoGPT: int(n * 0.9)
    assert "last 10 %" in result.rule and "one document" in result.rule
    result = assign(documents(19, characters=1000), HALF)
    assert all(cut == (900, 950) for cut in result.cuts.values()) and len(result.cuts) == 19


def test_pieces_of_a_large_file_are_cut_as_one_text() -> None:
    known = documents(13, characters=100)
    known.starts[1:] = False
    result = assign(known, HALF)
    sizes = np.array([(train, held - train, 100 - held) for train, held in result.cuts.values()])
    assert sizes.sum(axis=0).tolist() == [1170, 65, 65]
    assert np.all(sizes[:11] == [100, 0, 0]) and "one document" in result.rule


def test_nothing_held_out() -> None:
    result = assign(documents(3), Fractions(0, 0))
    assert result.verdicts.tolist() == [TRAIN] * 3 and result.rule == "nothing held out"


def test_repeats_are_dropped_but_not_from_ready_made_splits() -> None:
    known = documents(6)
    known.digests[3] = known.digests[1]  # a repeat within training
    known.digests[4] = known.digests[0]  # test holds a training document
    known.digests[5] = known.digests[4]  # and twice
    known.given[4:] = TEST
    result = assign(known, Fractions(0, 0))
    assert result.verdicts.tolist() == [REPEAT, TRAIN, TRAIN, REPEAT, TEST, TEST]
    assert assign(known, Fractions(0, 0), drop_repeats=False).verdicts.tolist() == [TRAIN] * 4 + [TEST] * 2


def test_half_equal_hashes_are_not_repeats() -> None:
    known = documents(3)
    known.digests[1, 0] = known.digests[2, 0] = known.digests[0, 0]
    assert REPEAT not in assign(known, Fractions(0, 0)).verdicts


def test_impossible_shares() -> None:
    for shares in ((0.5, 0.5), (-0.1, 0), (0, 1.5)):
        with pytest.raises(ValueError, match="leave something to train on"):
            Fractions(*shares)
