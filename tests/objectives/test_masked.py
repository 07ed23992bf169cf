"""Masked language modelling: what is framed, what is chosen, what the loss is a sum of."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from genus import recipes
from genus.objectives.masked import Masked
from genus.objectives.next_sentence import NextSentence, SentenceOrder
from genus.ops.cross_entropy import IGNORE
from genus.spec import from_json, to_json

CLS, SEP, MASK, PAD, EOS = 101, 102, 103, 100, 99


def _original(batch):
    """The framed rows before anything was masked."""
    return torch.where(batch.targets != IGNORE, batch.targets, batch.inputs)


def test_a_row_is_framed(rows, ids, seed) -> None:
    batch = Masked(rate=0.01).settle(ids).batch(rows([[1, 2, 3], [4], []], [[5, 6]], length=10), seed)
    assert _original(batch).tolist() == [[CLS, 1, 2, 3, SEP, CLS, 4, SEP, PAD, PAD], [CLS, 5, 6, SEP, *[PAD] * 6]]
    assert batch.doc.tolist() == [[0] * 5 + [1] * 3 + [-1] * 2, [0] * 4 + [-1] * 6]
    assert batch.types is None and batch.labels is None and batch.tokens == 12


def test_a_full_row_is_cut_and_needs_no_documents(rows, ids, seed) -> None:
    """The middle of a long document: its stored end is not there, the frame takes two places, and the fused kernel is kept."""
    batch = Masked(rate=0.01).settle(ids).batch(rows([list(range(50))], length=8, cut=True), seed)
    assert _original(batch).tolist() == [[CLS, 0, 1, 2, 3, 4, 5, SEP]]
    assert batch.doc is None


def test_a_text_that_would_have_no_token_is_left_out(rows, ids, seed) -> None:
    batch = Masked(rate=0.01).settle(ids).batch(rows([[1, 2, 3], [4]], length=6), seed)
    assert _original(batch).tolist() == [[CLS, 1, 2, 3, SEP, PAD]]


def test_shares(rows, ids, seed) -> None:
    """15 % are chosen; of these 80 % are masked, 10 % random, 10 % left; frame and padding never."""
    text = torch.randint(0, 98, (64, 250), generator=seed)
    objective = Masked().settle(ids)
    batch = objective.batch(rows(*[[line] for line in text.tolist()], length=260), seed)
    chosen, original = batch.targets != IGNORE, _original(batch)
    assert not chosen[(original >= 99)].any()
    n = int(chosen.sum())
    assert n == batch.count and n / text.numel() == pytest.approx(0.15, abs=0.01)
    hidden = (batch.inputs == MASK) & chosen
    same = (batch.inputs == batch.targets) & chosen
    assert int(hidden.sum()) / n == pytest.approx(0.8, abs=0.03)
    assert int(same.sum()) / n == pytest.approx(0.1, abs=0.02)
    assert torch.equal(batch.inputs[~chosen], original[~chosen])


def test_masks_are_drawn_from_the_generator_alone(rows, ids) -> None:
    objective, text = Masked().settle(ids), rows([list(range(60))])
    batches = [objective.batch(text, torch.Generator().manual_seed(s)) for s in (1, 1, 2)]
    assert torch.equal(batches[0].inputs, batches[1].inputs) and not torch.equal(batches[0].inputs, batches[2].inputs)


def test_words_are_chosen_whole(rows, ids, seed) -> None:
    text = rows(*[[list(range(60))]] * 20, length=64)
    starts = torch.zeros_like(text.tokens, dtype=torch.bool)
    starts[:, ::3] = True
    batch = Masked(whole_words=True).settle(ids).batch(replace(text, words=starts), seed)
    chosen = (batch.targets != IGNORE)[:, 1:61].reshape(20, 20, 3)
    assert torch.equal(chosen.any(-1), chosen.all(-1)) and 0.05 < chosen.float().mean() < 0.3


@pytest.mark.parametrize("task", [NextSentence(), SentenceOrder()])
def test_pairs_are_halves(task, rows, ids, seed) -> None:
    """Each is `[CLS] a [SEP] b [SEP]`, and the label says whether b follows a."""
    documents = [list(range(10 * d, 10 * d + 8)) for d in range(9)]
    objective = Masked(rate=0.01, sentences=task).settle(ids)
    seen = set()
    for _ in range(5):
        batch = objective.batch(rows(documents[:3], documents[3:6], documents[6:], length=60), seed)
        original, labels = _original(batch), batch.labels
        assert torch.equal(labels != IGNORE, original == CLS) and int((labels != IGNORE).sum()) == 9
        for row in range(3):
            for number in range(3):
                text = (batch.doc[row] == number).nonzero()[:, 0]
                line, types = original[row, text].tolist(), batch.types[row, text].tolist()
                middle = line.index(SEP)
                a, b = line[1:middle], line[middle + 1 : -1]
                assert line[0] == CLS and line[-1] == SEP and a and b
                assert types == [0] * (middle + 1) + [1] * (len(b) + 1)
                whole, label = documents[3 * row + number], int(labels[row, text[0]])
                if label == 0:
                    assert a + b == whole
                elif isinstance(task, SentenceOrder):
                    assert b + a == whole
                else:
                    assert a == whole[: len(a)] and b[0] // 10 != a[0] // 10
                seen.add(label)
    assert seen == {0, 1}


def test_a_single_document_still_gives_pairs(rows, ids, seed) -> None:
    """All rows are of one long document: the other half is from another row. One row alone has none."""
    objective = Masked(rate=0.01, sentences=NextSentence(changed=1.0)).settle(ids)
    text = rows([[1, 2, 3, 4]], [[5, 6, 7, 8]], length=12)
    batch = objective.batch(replace(text, doc=torch.where(text.doc >= 0, 0, -1)), seed)
    assert batch.labels[:, 0].tolist() == [1, 1]
    alone = objective.batch(rows([[1, 2, 3, 4]], [[5]], length=12), seed)
    assert alone.labels[:, 0].tolist() == [0, IGNORE]
    assert _original(alone)[1, :3].tolist() == [CLS, 5, SEP]  # one token cannot be cut


def _model(name: str, **sizes):
    torch.manual_seed(0)
    return recipes.make(name, dim=32, depth=1, heads=2, vocab=104, context=64, **sizes)


@pytest.mark.parametrize("name", ["bert", "albert", "roberta", "distilbert"])
def test_the_loss_is_the_same_in_pieces(name: str, rows, ids, seed) -> None:
    recipe = _model(name)
    objective, model = recipe.objective.settle(ids), recipe.model.build()
    documents = [[[5 * d + i for i in range(4 + d)] for d in range(first, first + 2)] for first in (0, 2, 4, 6)]
    batch = objective.replace(rate=0.4).batch(rows(*documents, length=40), seed)
    whole, count = objective.loss(model, batch)
    parts = [objective.loss(model, piece) for piece in batch.split(1)]
    torch.testing.assert_close(sum(loss for loss, _ in parts), whole)
    assert sum(int(n) for _, n in parts) == int(count) == batch.count > 0


def test_the_loss_is_that_of_both_read_outs(rows, ids, seed) -> None:
    """Tokens are summed, and each pair counts for the tokens that are chosen in it."""
    recipe = _model("bert")
    objective, model = recipe.objective.settle(ids), recipe.model.build().eval()
    batch = objective.replace(rate=0.3).batch(rows([[1, 2, 3, 4, 5, 6], [7, 8, 9]], [[11, 12, 13, 14, 15]], length=24), seed)
    hidden = model.hidden(batch.inputs, batch.doc, types=batch.types)
    expected = -model.head.score(hidden, batch.targets).sum()
    for row in range(2):
        for number in (0, 1):
            inside = batch.doc[row] == number
            if inside.any():
                first = int(inside.nonzero()[0, 0])
                label = int(batch.labels[row, first])
                chosen = int((batch.targets[row][inside] != IGNORE).sum())
                expected -= chosen * model.head.task(hidden[row : row + 1, first : first + 1]).log_softmax(-1)[0, label]
    torch.testing.assert_close(objective.loss(model, batch)[0], expected)
    told = objective.measure(model, batch)
    torch.testing.assert_close(told["loss"][0], expected)
    assert list(told) == ["loss", "masked_loss", "accuracy", "pair_accuracy"]
    assert 0 <= int(told["accuracy"][0]) <= int(told["accuracy"][1]) == batch.count and int(told["pair_accuracy"][1]) == 3


def test_accuracy_counts_what_the_model_names(rows, ids, seed) -> None:
    recipe = _model("roberta", pad=None)
    objective, model = recipe.objective.settle(ids).replace(rate=0.5), recipe.model.build().eval()
    batch = objective.batch(rows([list(range(30))], length=32), seed)
    named = model(batch.inputs, batch.doc).argmax(-1)
    right = int(((named == batch.targets) & (batch.targets != IGNORE)).sum())
    assert int(objective.measure(model, batch)["accuracy"][0]) == right


def test_nothing_chosen_is_no_loss(rows, ids, seed) -> None:
    recipe = _model("bert")
    objective = recipe.objective.settle(ids).replace(rate=1e-9)
    loss, count = objective.loss(recipe.model.build(), objective.batch(rows([[1, 2, 3]], length=8), seed))
    assert loss.item() == 0.0 and int(count) == 0
    loss.backward()


def test_what_it_refuses(ids) -> None:
    gpt, bert, plain = (_model("gpt2"), _model("bert"), _model("bert", sentences=False))
    assert "needs a model that sees all of the text" in Masked().refusal(gpt.model)
    assert bert.objective.refusal(bert.model) is None and plain.objective.refusal(plain.model) is None
    assert "objective.sentences=none" in bert.objective.refusal(plain.model)
    assert "only what came before" in gpt.objective.refusal(bert.model)
    with pytest.raises(ValueError, match=r"BERT takes 0\.15"):
        Masked(rate=0.0)
    with pytest.raises(ValueError, match="from 0 to 1"):
        NextSentence(changed=2.0)


def test_json_round_trip(ids) -> None:
    objective = Masked(sentences=SentenceOrder()).settle(ids)
    assert from_json(to_json(objective)) == objective


def test_the_read_out_is_counted_where_it_is_computed() -> None:
    recipe = _model("bert", sentences=False)
    whole = recipe.model.flops(0, 64)
    assert recipe.objective.flops(recipe.model, 64) == pytest.approx(whole - 0.85 * recipe.model.head.work(32, 104))
