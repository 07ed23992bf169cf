"""Few-shot use without an update: the prompt, what is shown, and the probabilities of the labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from genus.ops.cross_entropy import IGNORE
from genus.prepare.tokenizer import bytes_tokenizer
from genus.recipes import make
from genus.train.kneser_ney import estimate
from genus.tune.prompting import Prompt, Template, after, balanced

ROWS = [
    {"text": "the food was fine", "label": "good"},
    {"text": "never again", "label": "bad"},
    {"text": "a fine evening", "label": "good"},
    {"text": "cold soup and cold tea", "label": "bad"},
]
TEMPLATE = Template.infer(["text"], "label")
SIZES = {"dim": 48, "depth": 2, "vocab": 257}


class Documents:
    """A split of documents in memory."""

    def __init__(self, texts: list[str], eos: int) -> None:
        parts = [[*text.encode(), eos] for text in texts]
        self.data = np.concatenate(parts).astype(np.int64)
        self.tokens, self.ends = len(self.data), np.cumsum([len(p) for p in parts])

    def read(self, start: int, stop: int) -> np.ndarray:
        return self.data[start:stop]


@pytest.fixture(scope="module")
def tokenizer():
    return bytes_tokenizer()


def counted(folder: Path, texts: list[str], order: int = 6):
    tokens = bytes_tokenizer()
    return estimate(Documents(texts, tokens.eos_id), order, tokens.vocab_size, tokens.bos_id, tokens.eos_id, folder / "ngram")


def test_the_template_is_read_from_the_columns() -> None:
    template = Template.infer(["first_text", "other"], "label", {1: "yes", 0: "no"})
    assert template.text == "First text: {first_text}\nOther: {other}\nLabel: {label}"
    assert template.question({"first_text": "a {b}", "other": " c "}) == "First text: a {b}\nOther: c\nLabel:"
    assert template.answer(1) == " yes\n\n" and template.answer(2) == " 2\n\n"
    chinese = Template("评价：{评价}\n情感：{情感}")
    assert chinese.question({"评价": "好吃"}) == "评价：好吃\n情感：" and chinese.answer("正") == "正\n\n"


def test_a_template_that_cannot_be_used() -> None:
    with pytest.raises(ValueError, match="must end with the label's column in braces"):
        Template("no columns")
    with pytest.raises(ValueError, match="names the column 'review'; the columns are text, label"):
        Template("{review}: {label}").check(["text", "label"])


def test_examples_are_balanced_to_the_last() -> None:
    labels = ["a"] * 20 + ["b"] * 20 + ["c"] * 2
    chosen = balanced(labels, 9, seed=1)
    found = [labels[i] for i in chosen]
    assert len(set(chosen)) == 9 and found.count("c") == 2 and abs(found.count("a") - found.count("b")) <= 1
    assert set(found[:3]) == {"a", "b", "c"}
    assert chosen == balanced(labels, 9, seed=1) != balanced(labels, 9, seed=2)
    assert sorted(balanced(labels[:3], 9, seed=0)) == [0, 1, 2]


@pytest.mark.parametrize("recipe", ["llama", "gpt2", "lstm", "deltanet", "nnlm"])
def test_a_prefix_that_is_read_once_changes_nothing(recipe: str) -> None:
    sizes = {"dim": 32, "vocab": 257} if recipe == "nnlm" else SIZES
    model = make(recipe, **sizes).model.build().eval().requires_grad_(False)
    rng = np.random.default_rng(0)
    prefix, *questions = (rng.integers(0, 256, n).tolist() for n in (40, 5, 12, 0))
    endings = [[1, 2], [3], [4, 5, 6]]
    found = after(model, prefix, questions, endings, 256)
    for q, question in enumerate(questions):
        for e, ending in enumerate(endings):
            whole = torch.tensor([prefix + question + ending])
            targets = torch.full((1, whole.shape[1] - 1), IGNORE)
            targets[0, -len(ending) :] = whole[0, -len(ending) :]
            assert found[q, e] == pytest.approx(float(model.score(whole[:, :-1], targets).sum()), abs=2e-4)


def test_an_ngram_answers_and_calibration_takes_its_habit_away(tmp_path: Path, tokenizer) -> None:
    template = Template("{text}: {label}")
    seen = [("x ok", "good"), ("an", "good"), ("be", "good"), ("cold", "good"), ("x ko", "bad")]
    texts = [template.question({"text": t}) + template.answer(w) for t, w in seen]
    model = counted(tmp_path, texts, order=8)  # it says "good" to whatever it does not know
    prompt = Prompt(template, ("bad", "good"))
    answers = prompt.answer(model, tokenizer, [{"text": "x ok"}, {"text": "x ko"}, {"text": "something"}])
    assert answers.plain.argmax(1).tolist() == [1, 0, 1]
    assert answers.calibrated[2] == pytest.approx([0.5, 0.5], abs=0.02)
    assert answers.plain.sum(1) == pytest.approx(1) and answers.calibrated.sum(1) == pytest.approx(1)
    assert answers.shown.tolist() == [0, 0, 0] and not answers.notes


def test_what_does_not_fit_is_counted(tokenizer) -> None:
    limit = 120
    model = make("gpt2", dim=32, depth=1, heads=2, vocab=257, context=limit).model.build().eval()
    prompt = Prompt(TEMPLATE, ("bad", "good"), tuple(ROWS), limit)
    rows = [{"text": "short"}, {"text": "y" * 60}, {"text": "z" * 200}]
    answers = prompt.answer(model, tokenizer, rows)
    assert answers.shown.tolist() == [2, 0, 0] and answers.cut == 1 and np.isfinite(answers.log_probs).all()
    assert answers.notes[0] == "3 of 3 questions had no room for all 4 examples; 0.7 were shown on average"
    assert answers.notes[1] == "1 of 3 questions lost the beginning: longer than the context"
    # the last examples stay
    shown = Prompt(TEMPLATE, ("bad", "good"), tuple(ROWS[2:]), limit).answer(model, tokenizer, rows[:1])
    assert shown.log_probs[0] == pytest.approx(answers.log_probs[0], abs=1e-5)


def test_refusals(tokenizer) -> None:
    model = make("bert", dim=32, depth=1, heads=2, vocab=257, context=64).model.build().eval()
    with pytest.raises(ValueError, match="sees both sides"):
        Prompt(TEMPLATE, ("a", "b")).answer(model, tokenizer, ROWS)
    model = make("llama", dim=32, depth=1, heads=2, vocab=257).model.build().eval()
    same = Template("{text}: {label}", (("0", "no"), ("1", "no")))
    with pytest.raises(ValueError, match="writes the labels 'no' and 'no' alike"):
        Prompt(same, (0, 1)).answer(model, tokenizer, ROWS)
