"""ELMo from the data to a run: both directions learn, the forward one is an ordinary language model."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from genus.evaluate import evaluate
from genus.prepare.dataset import Dataset
from genus.run import Run, load
from genus.train.grow import grown
from genus.train.options import TrainOptions
from genus.train.start import resume, start

SIZES = ("dim=16", "depth=2", "hidden=32", "spelled=true")


def train(data: Dataset, out: Path) -> Run:
    options = TrainOptions(
        batch=8, context=32, tokens=8 * 32 * 30, eval_tokens=2048, dtype="fp32", lr=1e-2, save_steps=20, overrides=SIZES
    )
    return start("elmo", data.root, out, options, lambda _: None)


def test_a_run_of_both_directions(corpus: Dataset, tmp_path: Path) -> None:
    run = train(corpus, tmp_path / "run")
    losses = [r["loss"] for r in run.metrics() if r.get("kind") == "eval"]
    assert losses[0] > 5 and losses[-1] < 3.4, "the mean of the two directions"
    loaded = load(tmp_path / "run")
    table = loaded.model.embed.tokens.spelling
    assert table.dtype == torch.int16 and table[ord("a"), :3].tolist() == [1, 4 + ord("a"), 2], "the spelling is saved"
    found = evaluate(loaded, corpus, beside=False)
    assert 2.0 < found.model.bits_per_byte < 5.0
    larger = grown(loaded.model, corpus.vocab_size, corpus.vocab_size + 2).eval()
    ids = torch.randint(0, 200, (2, 9))
    torch.testing.assert_close(larger.layers(ids)[-1], loaded.model.layers(ids)[-1])


def test_resume(corpus: Dataset, tmp_path: Path) -> None:
    """The spelling goes on with the weights."""
    straight, cut = train(corpus, tmp_path / "straight"), train(corpus, tmp_path / "cut")
    for late in (tmp_path / "cut/checkpoints").glob("step-30"):
        for file in late.iterdir():
            file.unlink()
        late.rmdir()
    for file in (tmp_path / "cut/model").iterdir():
        file.unlink()
    del cut.config["finished"]
    cut.save()
    resume(tmp_path / "cut", lambda _: None)
    a, b = (load(r.path).model.state_dict() for r in (straight, cut))
    assert a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_the_spelling_survives_every_precision(dtype: str, corpus: Dataset, tmp_path: Path) -> None:
    from genus.export import huggingface
    from genus.modalities.spelling import spell
    from genus.recipes import make

    recipe = make("elmo", dim=16, depth=2, hidden=16, vocab=corpus.vocab_size, spelled=True)
    model = recipe.model.build(0)
    spell(model, corpus.tokenizer)
    huggingface.save(tmp_path, model, recipe, corpus.tokenizer, dtype=dtype)
    again = huggingface.load(tmp_path)[0]
    assert torch.equal(again.embed.tokens.spelling[:0xF5], model.embed.tokens.spelling[:0xF5]), "no text has a byte above F4"
