"""What the outputs of a task's head stand for, in config.json and back."""

import json
from pathlib import Path
from typing import Any

import pytest

from genus.export import huggingface
from genus.export.labels import Labels
from genus.parts.task_head import Pool, TaskHead

WHOLE = TaskHead(3, Pool())


@pytest.mark.parametrize(
    ("head", "names", "problem", "architecture", "told"),
    [
        (WHOLE, ("no", "?", "yes"), None, "SequenceClassification", "single_label_classification"),
        (WHOLE, (), None, "SequenceClassification", "single_label_classification"),
        (WHOLE, ("a", "b", "c"), "multi_label_classification", "SequenceClassification", "multi_label_classification"),
        (TaskHead(1, Pool()), (), None, "SequenceClassification", "regression"),
        (TaskHead(2, Pool()), (), "regression", "SequenceClassification", "regression"),
        (TaskHead(3, None), ("O", "B-X", "I-X"), None, "TokenClassification", "token_classification"),
        (TaskHead(2, None), ("O", "X"), None, "TokenClassification", "token_classification"),
        (TaskHead(2, None), (), "question_answering", "QuestionAnswering", "question_answering"),
    ],
)
@pytest.mark.parametrize("recipe", ["bert", "lstm"])
def test_there_and_back(
    tiny: Any, tmp_path: Path, recipe: str, head: Any, names: Any, problem: Any, architecture: str, told: str
) -> None:
    spec = tiny(recipe)[0].model.replace(head=head)
    huggingface.save(tmp_path, spec.build(0), spec, labels=names, problem=problem)
    config = json.loads((tmp_path / "config.json").read_text())
    stem = {"bert": "Bert", "lstm": "Genus"}[recipe]
    assert config["architectures"] == [f"{stem}For{architecture}"]
    assert huggingface.labels_of(tmp_path) == Labels(names, told)
    assert huggingface.load(tmp_path)[1] == spec
    if architecture == "SequenceClassification":
        assert config["problem_type"] == told
        assert config["label2id"] == {n: i for i, n in enumerate(names or [f"LABEL_{i}" for i in range(head.outputs)])}


def test_a_model_without_a_task_has_none(tiny: Any, tmp_path: Path) -> None:
    recipe, model = tiny("llama")
    huggingface.save(tmp_path, model, recipe)
    assert huggingface.labels_of(tmp_path) == Labels()
    with pytest.raises(ValueError, match="this one has none"):
        huggingface.save(tmp_path, model, recipe, labels=["a"])


@pytest.mark.parametrize(
    ("head", "names", "problem", "words"),
    [
        (WHOLE, ("a", "b"), None, "3 outputs, which need as many different labels"),
        (WHOLE, ("a", "a", "b"), None, "different labels"),
        (WHOLE, (), "clasification", "does not fit the model's head; choose one of: single_label"),
        (WHOLE, (), "question_answering", "choose one of: single_label"),
        (TaskHead(2, None), (), "regression", "choose one of: token_classification, question_answering"),
    ],
)
def test_labels_that_do_not_fit_the_head(tiny: Any, tmp_path: Path, head: Any, names: Any, problem: Any, words: str) -> None:
    spec = tiny("bert")[0].model.replace(head=head)
    with pytest.raises(ValueError, match=words):
        huggingface.save(tmp_path, spec.build(0), spec, labels=names, problem=problem)
    assert not (tmp_path / "config.json").exists()
