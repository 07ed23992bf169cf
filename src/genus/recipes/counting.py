"""Counting: the n-gram."""

from __future__ import annotations

from genus.parts.ngram import NGram
from genus.recipes.recipe import Recipe, system
from genus.recipes.training import Counting


@system(
    branch="counting",
    title="An empirical study of smoothing techniques for language modeling",
    year=1998,
    citation="Chen, Goodman. TR-10-98, Harvard 1998; Kneser, Ney. ICASSP 1995; Heafield et al. ACL 2013",
    summary="n-gram: counts of short contexts, smoothed by interpolated modified Kneser-Ney",
    summary_zh="n-gram：统计短上下文的次数，用插值的修正 Kneser-Ney 平滑",
)
def ngram(order: int = 5, vocab: int = 256, bos: int = 0, eos: int = 0, **_: int) -> Recipe:
    return Recipe(model=NGram(order, vocab, bos, eos), training=Counting())
