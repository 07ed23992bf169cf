"""The numbers that a choice of model rests on, read from prepared data and from a file of labels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from genus.evaluate.texts import Documents
from genus.prepare.dataset import MANIFEST, Dataset
from genus.prepare.records import read_splits
from genus.tune.task import Task, Wishes
from genus.tune.tasks import infer

if TYPE_CHECKING:
    from genus.modalities.text import Tokenizer

DOCUMENTS, ROWS = 200, 2000  # that are looked at for language and length
LIMIT = 512  # positions of BERT and of most encoders


@dataclass(frozen=True)
class Lengths:
    """Of texts: the median, the 95th percentile, and the share above LIMIT. unit: "tokens"; "characters" without a tokenizer."""

    median: float
    high: float
    over: float
    unit: str = "tokens"


@dataclass(frozen=True)
class Pile:
    """Unlabelled text. lengths: of the documents. chinese: share of the characters. pairs: every document has a source."""

    path: str
    tokens: int
    documents: int
    bytes: int
    bytes_per_token: float
    lengths: Lengths
    chinese: float
    pairs: bool


@dataclass(frozen=True)
class Labels:
    """Labelled rows.

    Attributes:
        task: what they ask for; because: why. rows: that can be used; refused: that cannot. classes: rows of each label, the
            commonest first. two: whether a row holds two texts. answer: lengths of target texts. bytes_per_token: under the
            pile's tokenizer. tokens: of all rows, estimated from those that were looked at.
    """

    path: str
    task: str
    because: str
    rows: int
    refused: int
    classes: dict[str, int]
    two: bool
    lengths: Lengths
    chinese: float
    answer: Lengths | None = None
    bytes_per_token: float | None = None
    tokens: float | None = None


@dataclass(frozen=True)
class Facts:
    """What is known; None where it was not given."""

    pile: Pile | None = None
    labels: Labels | None = None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def gather(paths: Sequence[str], wishes: Wishes = Wishes()) -> Facts:  # noqa: B008  (frozen)
    """The facts of DATA and LABELS, in any order; either may be missing.

    Raises:
        ValueError: a path that is neither, or two of a kind.
    """
    piles = [p for p in paths if (Path(p) / MANIFEST).is_file()]
    files = [p for p in paths if p not in piles]
    for kind, found in (("folders that genus prepare made", piles), ("files of labels", files)):
        if len(found) > 1:
            raise ValueError(f"{' and '.join(found)} are two {kind}; give one")
    data = Dataset.open(piles[0]) if piles else None
    labels = label_facts(files[0], wishes, None if data is None else data.tokenizer) if files else None
    return Facts(None if data is None else pile_facts(data), labels)


def pile_facts(data: Dataset) -> Pile:
    """What prepared data holds."""
    split = data.split("train")
    sizes = np.diff(split.ends, prepend=0)
    seen = Documents.choose(data, "train", DOCUMENTS)
    texts = [
        data.tokenizer.decode(seen.split.read(int(split.ends[i] - sizes[i]), int(split.ends[i]))[:LIMIT].tolist())
        for i in seen.numbers
    ]
    return Pile(
        str(data.root),
        split.tokens,
        split.documents,
        split.bytes,
        data.bytes_per_token,
        _lengths(sizes, "tokens"),
        _chinese(texts),
        data.pairs,
    )


def label_facts(path: str, wishes: Wishes, tokenizer: Tokenizer | None) -> Labels:
    """What a file of labels holds."""
    records = read_splits(path)["train"]
    task: Task = infer(records, wishes)
    rows = records.rows
    good = [i for i in range(len(rows)) if task.problem(rows[i]) is None]
    if not good:
        raise ValueError(f"{path} has no row that could be learnt from: {task.problem(rows[0]) if len(rows) else 'it is empty'}")
    looked = [good[i] for i in np.unique(np.linspace(0, len(good) - 1, min(ROWS, len(good))).astype(int))]
    texts = [task.texts(rows[i]) for i in looked]
    joined = [" ".join(each) for each in texts]
    sizes, unit = _sizes(joined, tokenizer)
    answers = [target for i in looked if isinstance(target := task.target(rows[i]), str)] if not task.labels_of() else []
    counts = Counter(stratum for i in good if (stratum := task.stratum(rows[i])) is not None)
    written = sum(len(text.encode()) for text in joined)
    return Labels(
        path=path,
        task=task.name,
        because=task.because(records),
        rows=len(good),
        refused=len(rows) - len(good) + len(records.rejected),
        classes=dict(counts.most_common()),
        two=any(len(each) > 1 for each in texts),
        lengths=_lengths(sizes, unit),
        chinese=_chinese(joined),
        answer=_lengths(*_sizes(answers, tokenizer)) if answers else None,
        bytes_per_token=written / max(1, int(sizes.sum())) if tokenizer else None,
        tokens=float(sizes.mean()) * len(good) if tokenizer else None,
    )


def _sizes(texts: Sequence[str], tokenizer: Tokenizer | None) -> tuple[np.ndarray, str]:
    if tokenizer is None:
        return np.array([len(text) for text in texts]), "characters"
    return np.array([len(ids) for ids in tokenizer.encode_batch(texts)]), "tokens"


def _lengths(sizes: np.ndarray, unit: str) -> Lengths:
    return Lengths(float(np.median(sizes)), float(np.quantile(sizes, 0.95)), float((sizes > LIMIT).mean()), unit)


def _chinese(texts: Sequence[str]) -> float:
    characters = sum(map(len, texts))
    return sum("一" <= c <= "鿿" for text in texts for c in text) / max(1, characters)
