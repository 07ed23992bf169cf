"""The estimator against a slow, independent one made of dictionaries, and against itself with less memory."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from genus.parts.ngram import NGram
from genus.train.kneser_ney import FALLBACK, discounts, estimate

BEGIN = "<s>"


@dataclass
class Split:
    """Documents in memory, with the interface of a prepared split."""

    stream: np.ndarray
    ends: np.ndarray

    @property
    def tokens(self) -> int:
        return len(self.stream)

    def read(self, start: int, stop: int) -> np.ndarray:
        return self.stream[start:stop]


def split_of(documents: list[list[int]]) -> Split:
    lengths = np.cumsum([len(d) for d in documents], dtype=np.int64)
    return Split(np.array([t for d in documents for t in d], np.uint16), lengths)


def random_documents(seed: int, vocab: int, count: int, eos: int) -> list[list[int]]:
    """Zipf-like text with long repeats, so that counts-of-counts are sound at every order; documents of 0 to 30 words."""
    rng = np.random.default_rng(seed)
    words = [t for t in range(vocab) if t != eos]
    weights = 1 / np.arange(1, len(words) + 1)
    phrases = [rng.choice(words, rng.integers(1, 9), p=weights / weights.sum()) for _ in range(60)]
    documents = []
    for _ in range(count):
        body = np.concatenate([phrases[int(60 * rng.random() ** 3)] for _ in range(rng.integers(0, 5))] or [np.empty(0, int)])
        documents.append([*map(int, body), eos])
    return documents


class Slow:
    """Interpolated modified Kneser-Ney as one would write it down, with tuples and dictionaries."""

    def __init__(self, documents: list[list[int]], order: int, vocab: int, prune: tuple[int, ...] = ()) -> None:
        self.order, self.vocab = order, vocab
        self.seen: Counter[tuple] = Counter()
        for document in documents:
            text = [BEGIN, *document]
            for end in range(1, len(text)):
                for length in range(1, min(order, end + 1) + 1):
                    self.seen[tuple(text[end - length + 1 : end + 1])] += 1
        self.counts = [Counter() for _ in range(order + 1)]
        for gram, count in self.seen.items():
            if len(gram) == order or gram[0] == BEGIN:
                self.counts[len(gram)][gram] = count
            if 1 < len(gram) <= order:
                self.counts[len(gram) - 1][gram[1:]] += 1
        self.threshold = [prune[min(k, len(prune)) - 1] if prune else 0 for k in range(1, order + 1)]
        self.discounts = [None]
        for k in range(1, order + 1):
            histogram = Counter(self.counts[k].values())
            self.discounts.append((0.0, *discounts([histogram[i] for i in (1, 2, 3, 4)])))
        self.followers: dict[tuple, list[tuple[int, bool, float]]] = defaultdict(list)
        for k in range(1, order + 1):
            for gram, count in self.counts[k].items():
                keep = self.seen[gram] > self.threshold[k - 1]
                self.followers[gram[:-1]].append((count, keep, self.discounts[k][min(count, 3)]))

    def probability(self, context: tuple, word: int) -> float:
        context = context[-(self.order - 1) :] if self.order > 1 else ()
        if context not in self.followers:
            return self.probability(context[1:], word)
        k = len(context) + 1
        shorter = self.probability(context[1:], word) if context else 1 / self.vocab
        followers = self.followers[context]
        total = sum(count for count, _, _ in followers)
        gamma = sum(discount if keep else count for count, keep, discount in followers) / total
        gram = (*context, word)
        count = self.counts[k].get(gram, 0)
        if count and self.seen[gram] <= self.threshold[k - 1]:
            count = 0
        return (count - self.discounts[k][min(count, 3)]) / total + gamma * shorter


def check_against_slow(model: NGram.Module, slow: Slow, document: list[int], bos: int) -> None:
    inputs = [bos, *document[:-1]]
    probabilities = model(torch.tensor([inputs]))[0].exp()
    scores = model.score(torch.tensor([inputs]), torch.tensor([document]))[0].exp()
    for t, word in enumerate(document):
        context = (BEGIN, *document[:t])
        assert scores[t].item() == pytest.approx(slow.probability(context, word), rel=1e-5)
        for other in range(slow.vocab):
            assert probabilities[t, other].item() == pytest.approx(slow.probability(context, other), rel=1e-5)


@pytest.mark.parametrize("order", range(1, 9))
def test_equals_the_slow_estimator(order: int, tmp_path: Path) -> None:
    documents = random_documents(order, 12, 80, eos=0)
    model = estimate(split_of(documents), order, 12, 0, 0, tmp_path / "model")
    slow = Slow(documents, order, 12)
    check_against_slow(model, slow, [3, 1, 2, 5, 11, 1, 1, 2, 3, 0], bos=0)
    check_against_slow(model, slow, max(documents, key=len)[:14], bos=0)


@pytest.mark.parametrize("order", [3, 4])
def test_formula_and_fallback_discounts_are_both_exercised(order: int) -> None:
    slow = Slow(random_documents(order, 12, 80, eos=0), order, 12)
    used = [d[1:] for d in slow.discounts[1:]]
    assert FALLBACK in used and any(d != FALLBACK for d in used)


def test_bos_different_from_eos(tmp_path: Path) -> None:
    documents = random_documents(0, 10, 60, eos=9)
    documents = [[t if t != 0 else 1 for t in d] for d in documents]  # 0 is BOS, never stored
    model = estimate(split_of(documents), 4, 10, 0, 9, tmp_path / "model")
    check_against_slow(model, Slow(documents, 4, 10), [3, 1, 2, 5, 9], bos=0)


@pytest.mark.parametrize("prune", [(0, 0, 1), (0, 1), (0, 0, 1, 3)])
def test_pruning_equals_the_slow_estimator_and_makes_it_smaller(prune: tuple[int, ...], tmp_path: Path) -> None:
    documents = random_documents(5, 12, 120, eos=0)
    full = estimate(split_of(documents), 4, 12, 0, 0, tmp_path / "full")
    model = estimate(split_of(documents), 4, 12, 0, 0, tmp_path / "model", prune=prune, memory=30_000)
    check_against_slow(model, Slow(documents, 4, 12, prune), [3, 1, 2, 5, 11, 1, 2, 3, 0], bos=0)
    assert model.spec.grams[-1] < full.spec.grams[-1]
    assert all(a <= b for a, b in zip(model.spec.grams, full.spec.grams, strict=True))


@pytest.mark.parametrize("order", [2, 5])
@pytest.mark.parametrize("memory", [15_000, 60_000])
def test_little_memory_gives_the_same_bits(order: int, memory: int, tmp_path: Path) -> None:
    documents = random_documents(1, 300, 150, eos=299)
    stages: list[str] = []
    estimate(split_of(documents), order, 300, 299, 299, tmp_path / "all", workers=1)
    estimate(
        split_of(documents), order, 300, 299, 299, tmp_path / "some", memory=memory, progress=lambda s, d, t: stages.append(s)
    )
    assert any("merge" in s for s in stages)
    files = sorted(p.name for p in (tmp_path / "all").iterdir())
    assert files == sorted(p.name for p in (tmp_path / "some").iterdir())
    for name in files:
        assert (tmp_path / "all" / name).read_bytes() == (tmp_path / "some" / name).read_bytes(), name


def test_discounts_follow_chen_and_goodman() -> None:
    assert discounts([10, 4, 2, 1]) == pytest.approx((1 - 2 * (10 / 18) * 0.4, 2 - 3 * (10 / 18) * 0.5, 3 - 4 * (10 / 18) * 0.5))
    assert discounts([10, 0, 2, 1]) == FALLBACK
    assert discounts([1, 1, 9, 1]) == FALLBACK  # D2 would be negative


def test_one_token_is_a_model(tmp_path: Path) -> None:
    model = estimate(split_of([[2]]), 5, 4, 2, 2, tmp_path / "model")
    p = model(torch.tensor([[2]]))[0, 0].exp()
    assert p.sum().item() == pytest.approx(1)
    assert p.argmax() == 2


def test_nothing_to_count_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="nothing to count"):
        estimate(Split(np.empty(0, np.uint16), np.empty(0, np.int64)), 3, 4, 0, 0, tmp_path / "model")
    with pytest.raises(ValueError, match="token 7"):
        estimate(split_of([[7, 0]]), 3, 4, 0, 0, tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


def test_a_killed_run_leaves_the_old_model_and_the_next_one_cleans_up(tmp_path: Path) -> None:
    documents = random_documents(2, 12, 40, eos=0)
    out = tmp_path / "model"
    estimate(split_of(documents), 2, 12, 0, 0, out)
    before = (out / "config.json").read_bytes()

    class Killed(BaseException):
        pass

    def kill(stage: str, done: int, total: int) -> None:
        if "probabilities" in stage:
            raise Killed

    with pytest.raises(Killed):
        estimate(split_of(documents), 3, 12, 0, 0, out, progress=kill)
    assert (out / "config.json").read_bytes() == before
    (tmp_path / ".model.partial" / "work").mkdir(parents=True)  # what SIGKILL would have left
    assert estimate(split_of(documents), 3, 12, 0, 0, out).spec.order == 3
    assert [p.name for p in tmp_path.iterdir()] == ["model"]
