"""Modular addition: what is held out, and what is said about when it was learnt."""

from __future__ import annotations

import pytest

from genus.evaluate.probes import probe_score
from genus.evaluate.probes.grokking import HELD_OUT, SEEN, Grokking, _verdict, reached
from genus.evaluate.probes.learning import Learned, learn
from genus.evaluate.probes.small import small


def test_tables() -> None:
    task = Grokking(11, 0.6)
    seen, held = ({(a, b): c for a, b, _, c in task.tables[level].tolist()} for level in (SEEN, HELD_OUT))
    assert not seen.keys() & held.keys() and len(seen) + len(held) == 121 and 55 <= len(seen) <= 90
    for table in (seen, held):
        assert all((b, a) in table and (a - 1 + b - 1) % 11 == c - 1 for (a, b), c in table.items())


def test_knowing_by_heart_is_not_the_rule() -> None:
    """An n-gram that sees both numbers knows every pair that it saw, and no other."""
    found = probe_score("ngram", "grokking", seconds=0.2)
    assert found.figures["right, seen pairs"] > 0.99 and found.score < 0.2
    assert "the rule was not within the time" in found.notes[-1]


def test_a_network_learns_the_examples() -> None:
    task = Grokking(11, 0.8)
    learned = learn(small("llama", task.vocab, task.length), task, 60.0, updates=60)
    assert learned.last(SEEN)[0] > 0.95 and reached(learned, SEEN) <= 60
    assert learned.last(HELD_OUT)[0] < 0.5


@pytest.mark.parametrize(
    ("seen", "held", "words"),
    [
        ([0.1, 1.0, 1.0, 1.0], [0.0, 0.1, 0.3, 1.0], "grokking: the examples were known after 10 updates, the rule after 1,000"),
        ([0.1, 0.2, 0.9, 1.0], [0.0, 0.1, 0.9, 1.0], "no grokking: the rule came with the examples"),
        ([0.1, 1.0, 1.0, 1.0], [0.0, 0.1, 0.1, 0.1], "the rule was not within the time (10% of the held-out pairs)"),
        ([0.1, 0.1, 0.1, 0.1], [0.0, 0.1, 0.1, 0.1], "nothing can be said"),
    ],
)
def test_verdicts(seen: list[float], held: list[float], words: str) -> None:
    learned = Learned(None, [1, 10, 100, 1000], {SEEN: [(s, 1 - s) for s in seen], HELD_OUT: [(h, 1 - h) for h in held]})
    assert words in _verdict(reached(learned, SEEN), reached(learned, HELD_OUT), held[-1])
