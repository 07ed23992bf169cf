"""A tag for every word: named entities, parts of speech."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

import torch

from genus.modalities.framing import frame_words
from genus.objectives.batch import Batch
from genus.objectives.labelled import Tag, outputs
from genus.ops.cross_entropy import IGNORE
from genus.parts.model import Model
from genus.parts.task_head import TaskHead
from genus.prepare.records import Record, Records
from genus.tune.reading import token_head
from genus.tune.task import Example, Task, Wishes, column, missing

if TYPE_CHECKING:
    from genus.modalities.text import Tokenizer

WORDS = ("words", "tokens", "token", "word", "text", "sentence")
TAGS = ("tags", "ner_tags", "ner", "pos_tags", "upos", "pos", "chunk_tags", "labels", "label")
OUTSIDE = "O"
ENTITY = re.compile(r"[BIESLU]-.+|O")
LOOK = 200  # rows that are looked at to see whether a column holds lists


@dataclass(frozen=True)
class Tagging(Task):
    """Which tag each word of a text has. Words are read by their first piece (Devlin et al. 2019, section 5.3).

    A row too long for the model is read in pieces of whole words.

    Attributes:
        words, tags: columns: lists, or texts with spaces between words and between tags. labels: every tag, sorted.
    """

    name: ClassVar[str] = "tagging"

    words: str = "words"
    tags: str = "tags"
    labels: tuple[str, ...] = ()

    @property
    def primary(self) -> str:  # type: ignore[override]
        return "f1" if self.entities else "accuracy"

    @property
    def entities(self) -> bool:
        """Whether the tags mark entities (BIO, BIOES, BILOU)."""
        return all(ENTITY.fullmatch(tag) for tag in self.labels)

    @property
    def columns(self) -> tuple[str, ...]:
        return (self.words, self.tags)

    @classmethod
    def infer(cls, records: Records, wishes: Wishes) -> Self | None:
        words = column(records, wishes.text, WORDS, "the words", "--text")
        tags = column(records, wishes.label, TAGS, "the tags", "--label")
        asked = wishes.task == cls.name
        if words is None or tags is None:
            if asked:
                raise missing(records, "column that looks like " + ("words" if words is None else "tags"), "--text and --label")
            return None
        look = records.rows[:LOOK]
        lists = sum(isinstance(row.get(tags), list) and isinstance(row.get(words), list) for row in look)
        split = [(as_list(row.get(words)), as_list(row.get(tags))) for row in look]
        spaced = sum(len(w) == len(t) > 1 for w, t in split)
        if not asked and lists < 0.5 * len(look) and not (words in WORDS[:4] and spaced > 0.5 * len(look)):
            return None
        seen = Counter(tag for row in records.rows for tag in as_list(row.get(tags)))
        if len(seen) < 2:
            raise ValueError(f"the column {tags!r} of {records.name} holds {len(seen)} different tags; at least two are needed")
        return cls(words, tags, tuple(sorted(seen, key=lambda tag: (tag != OUTSIDE, tag))))

    def because(self, records: Records) -> str:
        kind = "marks of entities" if self.entities else "tags"
        return (
            f"{self.tags!r} holds a list with a tag for each of {self.words!r}, {len(self.labels)} different {kind}: {self.name}"
        )

    def problem(self, row: Record, labelled: bool = True) -> str | None:
        words = as_list(row.get(self.words))
        if not words:
            return f"empty {self.words}" if self.words in row else f"no {self.words}"
        if not labelled:
            return None
        tags = as_list(row.get(self.tags))
        if not tags:
            return f"empty {self.tags}"
        if len(tags) != len(words):
            return f"{len(words)} {self.words} with {len(tags)} {self.tags}"
        strange = next((tag for tag in tags if tag not in self.labels), None)
        return None if strange is None else f"tag {strange!r} is not among those that were learnt from"

    def texts(self, row: Record) -> tuple[str, ...]:
        return (" ".join(as_list(row.get(self.words))),)

    def target(self, row: Record) -> list[str]:
        return as_list(row.get(self.tags))

    def examples(self, rows: Sequence[Record], tokenizer: Tokenizer, limit: int) -> list[Example]:
        number = {tag: i for i, tag in enumerate(self.labels)}
        made = []
        for i, row in enumerate(rows):
            words, tags = as_list(row.get(self.words)), self.target(row)
            told = [number.get(tag, 0) for tag in tags] if len(tags) == len(words) else [0] * len(words)
            done = 0
            while done < len(words):
                ids, types, of_word = frame_words(tokenizer, words[done:], limit)
                first = {word: place for place, word in reversed(list(enumerate(of_word))) if word is not None}
                label = [IGNORE] * len(ids)
                for word, place in first.items():
                    label[place] = told[done + word]
                made.append(Example(ids, types, label, row=i))
                done += len(first)
        return made

    def head(self, model: Model) -> TaskHead | None:
        return token_head(model, len(self.labels))

    @property
    def objective(self) -> Tag:
        return Tag()

    def outputs(self, model: Any, batch: Batch, dtype: torch.dtype = torch.float32) -> list[Any]:
        """For each word: the number of its tag, and its probability."""
        p, best = outputs(model, batch, dtype).softmax(-1).max(-1)
        return [
            list(zip(best[i][told].tolist(), p[i][told].tolist(), strict=True)) for i, told in enumerate(batch.targets != IGNORE)
        ]

    def join(
        self, rows: Sequence[Record], examples: Sequence[Example], outputs: Sequence[Any], tokenizer: Tokenizer
    ) -> list[Any]:
        """The pieces of a row one after the other."""
        found: list[Any] = [None] * len(rows)
        for example, output in zip(examples, outputs, strict=True):
            found[example.row] = [*(found[example.row] or []), *output]
        return found

    def counts(self, predictions: Sequence[Any], rows: Sequence[Record]) -> TagCounts:
        """For accuracy over words; and of entities (exact in their bounds and kind) f1, precision and recall.

        Raises:
            ValueError: the tags mark entities, and seqeval, which finds them, is not installed.
        """
        pairs = [
            ([self.labels[tag] for tag, _ in p], target)
            for p, row in zip(predictions, rows, strict=True)
            if p and len(target := self.target(row)) == len(p)
        ]
        words = sum(len(t) for _, t in pairs)
        hits = sum(a == b for p, t in pairs for a, b in zip(p, t, strict=True))
        return TagCounts(words, hits, EntityCounts.of(*zip(*pairs)) if self.entities else None)

    def render(self, prediction: Any) -> dict[str, Any]:
        return {"prediction": [self.labels[tag] for tag, _ in prediction], "probability": [round(p, 4) for _, p in prediction]}

    def labels_of(self) -> tuple[str, ...]:
        return self.labels


@dataclass(frozen=True)
class EntityCounts:
    """Of entities, exact in their bounds and kind as conlleval counts them: those that are right, were said, and there are."""

    right: int = 0
    said: int = 0
    there: int = 0

    @classmethod
    def of(cls, guesses: Sequence[Sequence[str]] = (), targets: Sequence[Sequence[str]] = ()) -> Self:
        """The tags of some rows.

        Raises:
            ValueError: seqeval is not installed.
        """
        try:
            from seqeval.metrics.sequence_labeling import get_entities
        except ModuleNotFoundError as error:
            raise ValueError('scores of entities need the "eval" extra: pip install "genus[eval]"') from error
        said, there = (set(get_entities([list(row) for row in rows])) for rows in (guesses, targets))
        return cls(len(said & there), len(said), len(there))

    def __add__(self, other: Self) -> Self:
        return type(self)(self.right + other.right, self.said + other.said, self.there + other.there)

    def scores(self) -> dict[str, float]:
        """f1, precision and recall; 0 where nothing was said, or there is nothing."""
        shares = {"f1": 2 * self.right / max(1, self.said + self.there)}
        return shares | {"precision": self.right / max(1, self.said), "recall": self.right / max(1, self.there)}


@dataclass(frozen=True)
class TagCounts:
    """Of words: how many, and how many have the right tag; and of the entities that the tags mark, if they do."""

    words: int
    hits: int
    entities: EntityCounts | None = None

    def __add__(self, other: Self) -> Self:
        entities = None if self.entities is None or other.entities is None else self.entities + other.entities
        return type(self)(self.words + other.words, self.hits + other.hits, entities)

    def scores(self) -> dict[str, float]:
        """accuracy, and what the entities give; NaN where there are no words."""
        found = {"accuracy": self.hits / max(1, self.words)} | ({} if self.entities is None else self.entities.scores())
        return found if self.words else dict.fromkeys(found, math.nan)


def as_list(value: Any) -> list[str]:
    """A list of words or tags, also when it is written with spaces, or as JSON."""
    if isinstance(value, str):
        if value.lstrip().startswith("["):
            try:
                value = json.loads(value)
            except json.JSONDecodeError:
                return value.split()
        else:
            return value.split()
    if not isinstance(value, list | tuple):
        return []
    return ["" if each is None else str(each) for each in value]
