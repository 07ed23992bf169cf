"""Rules for Chinese text: what the English rules ask of words, asked of characters.

Sources: ChineseWebText (Chen et al. 2023, arXiv:2311.01149, preprocessing) for length, lines, share of Chinese and repetition;
FineWeb-2 (Penedo et al. 2025, arXiv:2506.20920) for the frequent words.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from genus.prepare.steps.glimpse import glimpse
from genus.prepare.steps.hanzi import variant
from genus.prepare.steps.keys import alike, characters, mix
from genus.prepare.steps.layout import SYMBOL, Layout
from genus.prepare.steps.rules import decide, share
from genus.prepare.steps.step import Function, Outcome, Step

if TYPE_CHECKING:
    import pyarrow as pa

FREQUENT = frozenset("的在是和了於于有被人中為为他與与後后也而由")


@dataclass(frozen=True)
class Chinese(Step):
    """Drop Chinese texts that are short, chopped up, mostly something else, or repeat themselves (rules of ChineseWebText).

    Texts in other languages are left as they are. A number of 0, and a share of 1 for `repeated`, switches a rule off.

    Attributes:
        characters: least number of characters of a document. White space never counts.
        line: least mean number of characters of a line.
        han: least share of Chinese characters among all.
        repeated: largest share of runs of `run` characters that occur more than once in the document.
        frequent: how many different ones of the most frequent characters (的, 在, 是 ...) must occur.
        script: the way of writing that is kept: "simplified", "traditional", or "any".
    """

    NAME: ClassVar[str] = "chinese"

    characters: int = 200
    line: float = 10.0
    han: float = 0.3
    repeated: float = 0.5
    run: int = 13
    frequent: int = 2
    script: Literal["any", "simplified", "traditional"] = "any"

    def ready(self) -> Function:
        return self._judge

    def _judge(self, batch: pa.RecordBatch) -> Outcome:
        layout = Layout(batch.column("text"))
        chinese = layout.chinese
        if not chinese.any():
            return decide(batch, [])
        few, other = np.zeros(len(layout), dtype=bool), np.zeros(len(layout), dtype=bool)
        wrong = {"any": None, "simplified": "zh-Hant", "traditional": "zh-Hans"}[self.script]
        for i in np.flatnonzero(chinese).tolist():
            text = layout.column[i].as_py()
            few[i] = len(FREQUENT.intersection(text)) < self.frequent
            other[i] = wrong is not None and variant(glimpse(text)) == wrong
        rules = [
            ("too few characters", chinese & (layout.visible < self.characters)),
            ("short lines", chinese & (share(layout.visible, layout.lines.counts) < self.line)),
            ("little Chinese", chinese & (share(layout.han, layout.visible) < self.han)),
            (f"not {self.script} Chinese", other),
            ("no Chinese function words", few),
        ]
        left = chinese & ~np.any([broken for _, broken in rules], axis=0)
        return decide(batch, [*rules, ("repeated phrases", repeated_share(layout, left, self.run) > self.repeated)])


def repeated_share(layout: Layout, among: np.ndarray, run: int) -> np.ndarray:
    """Of the runs of `run` characters in each text, the share that occurs more than once: (texts,) float64, 0 outside `among`.

    White space is skipped. Runs may overlap, and all occurrences count, the first too.
    """
    at = np.flatnonzero((layout.kinds >= SYMBOL) & np.repeat(among, np.diff(layout.offsets)))
    if len(at) < run:
        return np.zeros(len(layout))
    text = np.repeat(np.arange(len(layout)), np.where(among, layout.visible, 0))
    key, size = mix(characters(layout.data, at), text.astype(np.uint64)), 1
    while size < run:  # a run of 13 is a run of 8 beside, or overlapping, another: four steps instead of twelve
        step = min(size, run - size)
        key = mix(key[: len(key) - step], key[step:])
        size += step
    whole = np.arange(len(key))
    whole = whole[text[whole] == text[whole + run - 1]]
    found, _ = alike(key[whole], whole)
    number = np.bincount(text[whole], minlength=len(layout))
    return share(np.bincount(text[found], minlength=len(layout)), number)
