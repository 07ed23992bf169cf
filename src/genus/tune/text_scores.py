"""Scores of texts against the texts that were wanted."""

from __future__ import annotations

import re
from collections.abc import Sequence

_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]|[^\W_]+", re.UNICODE)  # a word, or a Chinese or Japanese character


def scores(texts: Sequence[str], wanted: Sequence[str]) -> dict[str, float]:
    """exact_match and rouge_l; chrf and bleu (0 to 100) too where sacrebleu is installed (the extra `eval`)."""
    if not texts:
        return {}
    pairs = list(zip(texts, wanted, strict=True))
    found = {
        "exact_match": sum(a.strip() == b.strip() for a, b in pairs) / len(pairs),
        "rouge_l": sum(rouge_l(a, b) for a, b in pairs) / len(pairs),
    }
    try:
        from sacrebleu.metrics import BLEU, CHRF
    except ImportError:
        return found
    chinese = sum(len(re.findall(r"[\u3400-\u9fff]", b)) for b in wanted) > 0.2 * sum(map(len, wanted))
    bleu = BLEU(tokenize="zh" if chinese else "13a").corpus_score(list(texts), [list(wanted)])
    return found | {"chrf": CHRF().corpus_score(list(texts), [list(wanted)]).score, "bleu": bleu.score}


def rouge_l(text: str, wanted: str) -> float:
    """F1 of the longest common subsequence of words (Lin 2004, "ROUGE", section 3.1); a Chinese character is a word."""
    a, b = (_WORD.findall(each.lower()) for each in (text, wanted))
    if not a or not b:
        return float(a == b)
    common = _subsequence(a, b)
    return 2 * common / (len(a) + len(b))


def _subsequence(a: Sequence[str], b: Sequence[str]) -> int:
    """Length of the longest common subsequence, by bits (Hyyrö 2004): one machine operation for many cells of the table."""
    places: dict[str, int] = {}
    for i, word in enumerate(a):
        places[word] = places.get(word, 0) | 1 << i
    full = (1 << len(a)) - 1
    row = full
    for word in b:
        same = row & places.get(word, 0)
        row = ((row + same) | (row - same)) & full
    return len(a) - row.bit_count()
