"""Tags: words meet their first pieces, long rows are read in pieces, entities are scored whole."""

from __future__ import annotations

import pytest
import torch

from genus.objectives.batch import Batch
from genus.ops.cross_entropy import IGNORE
from genus.prepare.tokenizer import build
from genus.tune.tasks.tagging import EntityCounts, Tagging, as_list

TASK = Tagging(labels=("O", "B-PER", "I-PER", "B-LOC"))
ROW = {"words": ["Anna", "Maria", "lives", "in", "Rome"], "tags": ["B-PER", "I-PER", "O", "O", "B-LOC"]}
TOKENIZER = build("bpe", ["Anna Maria lives in Rome, " * 9], 300, vocab=290).extended(("cls", "sep"))


def test_the_first_piece_of_a_word_has_its_tag() -> None:
    (example,) = TASK.examples([ROW], TOKENIZER, 64)
    told = [label for label in example.label if label != IGNORE]
    assert told == [1, 2, 0, 0, 3] and len(example.label) == len(example.ids) > 5
    unlabelled = TASK.examples([{"words": ROW["words"]}], TOKENIZER, 64)[0]
    assert [label != IGNORE for label in unlabelled.label] == [label != IGNORE for label in example.label]


def test_a_long_row_is_read_in_pieces_and_nothing_is_lost() -> None:
    row = {name: values * 9 for name, values in ROW.items()}
    examples = TASK.examples([ROW, row], TOKENIZER, 16)
    assert len(examples) > 4 and all(len(e.ids) <= 16 for e in examples) and not any(e.cut for e in examples)
    told = [label for e in examples for label in e.label if e.row == 1 and label != IGNORE]
    assert told == [1, 2, 0, 0, 3] * 9
    outputs = [[(label, 1.0) for label in e.label if label != IGNORE] for e in examples]
    joined = TASK.join([ROW, row], examples, outputs, TOKENIZER)
    assert [len(p) for p in joined] == [5, 45]
    assert TASK.score(joined, [ROW, row]) == {"accuracy": 1.0, "f1": 1.0, "precision": 1.0, "recall": 1.0}
    assert TASK.render(joined[0])["prediction"] == ROW["tags"]


def test_outputs_are_those_of_words() -> None:
    batch = TASK.objective.batch(TASK.examples([ROW, {"words": ["in"], "tags": ["O"]}], TOKENIZER, 64))
    logits = torch.zeros(*batch.inputs.shape, 4)
    logits[..., 3] = 1.0

    def model(*_: object, **__: object) -> torch.Tensor:
        return logits

    found = TASK.outputs(model, batch)
    assert [len(each) for each in found] == [5, 1] and {tag for each in found for tag, _ in each} == {3}
    assert isinstance(batch, Batch) and int((batch.targets != IGNORE).sum()) == 6


def test_entities_count_whole() -> None:
    right = [["B-PER", "I-PER", "O", "B-LOC"]]
    assert EntityCounts.of([["B-PER", "O", "O", "B-LOC"]], right).scores() == {"f1": 0.5, "precision": 0.5, "recall": 0.5}
    bioes = [["B-PER", "E-PER", "O", "S-LOC"]]
    assert EntityCounts.of(bioes, bioes).scores()["f1"] == 1.0 and Tagging(labels=("O", "B-PER", "E-PER", "S-LOC")).entities
    parts = Tagging(labels=("NOUN", "VERB"))
    assert parts.primary == "accuracy" and set(parts.score([[(0, 1.0)]], [{"tags": ["NOUN"]}])) == {"accuracy"}


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ({"words": ["a"], "tags": ["O"]}, None),
        ({"words": [], "tags": []}, "empty words"),
        ({"tags": ["O"]}, "no words"),
        ({"words": ["a", "b"], "tags": ["O"]}, "2 words with 1 tags"),
        ({"words": ["a"], "tags": ["B-X"]}, "tag 'B-X' is not among"),
    ],
)
def test_rows_that_cannot_be_used(row: dict, problem: str | None) -> None:
    found = TASK.problem(row)
    assert found is None if problem is None else problem in str(found)


def test_lists_may_be_written_out() -> None:
    assert as_list("a b") == as_list('["a", "b"]') == as_list(["a", "b"]) == ["a", "b"]
    assert as_list(None) == as_list(3) == [] and as_list("[a b") == ["[a", "b"]
