"""The verb as a whole: figures against their definition, and what the notes say."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path

import pytest
import torch

from genus import recipes
from genus.cli import evaluate as cli
from genus.evaluate import evaluate
from genus.export import huggingface
from genus.prepare import prepare
from genus.prepare.dataset import Dataset
from genus.run import load


@torch.no_grad()
def _nats(model, data: Dataset, tokenizer, split: str = "validation") -> tuple[float, int]:
    """Sum over documents, each encoded and scored alone and whole."""
    total, count = 0.0, 0
    held = data.split(split)
    for n in range(held.documents):
        text = data.tokenizer.decode(held.document(n)[:-1].tolist())
        ids = torch.tensor([tokenizer.bos_id, *tokenizer.encode(text), tokenizer.eos_id])
        total -= float(model.score(ids[None, :-1], ids[None, 1:]).double().sum())
        count += len(ids) - 1
    return total, count


def test_figures_are_their_definitions(data: Dataset, runs: dict[str, Path]) -> None:
    """A recurrent model sees whole documents, so a plain loop gives the same."""
    result = evaluate(runs["gru"], data, beside=False)
    loaded = load(runs["gru"])
    nats, count = _nats(loaded.model, data, data.tokenizer)
    held = data.split("validation")
    texts = [data.tokenizer.decode(held.document(n)[:-1].tolist()) for n in range(held.documents)]
    measure = result.model
    assert measure.tokens == count == held.tokens
    assert measure.bits_per_byte == pytest.approx(nats / math.log(2) / sum(len(t.encode()) for t in texts), rel=1e-4)
    assert measure.perplexity == pytest.approx(math.exp(nats / count), rel=1e-4)
    assert measure.per_word is None or measure.per_word > 1e10 or math.isfinite(measure.per_word)
    assert measure.per_character == pytest.approx(math.exp(nats / sum(map(len, texts))), rel=1e-3)
    assert result.window is None and result.stride is None
    assert measure.interval[0] < measure.bits_per_byte < measure.interval[1]
    assert "bootstrap over documents" in result.notes[0]


def test_another_tokenizer_is_measured_on_the_same_bytes(data: Dataset, other_tokenizer: Dataset, runs: dict[str, Path]) -> None:
    """The model's tokens, the original bytes: data prepared either way gives one figure."""
    own, foreign = evaluate(runs["gru"], data, beside=False), evaluate(runs["gru"], other_tokenizer, beside=False)
    assert foreign.bytes == own.bytes and foreign.model.tokens == own.model.tokens
    assert foreign.model.bits_per_byte == pytest.approx(own.model.bits_per_byte, rel=1e-6)
    assert any("another tokenizer" in note for note in foreign.notes) and not any(
        "another tokenizer" in note for note in own.notes
    )
    assert any("trained on other data" in note for note in foreign.notes)


def test_windows(data: Dataset, runs: dict[str, Path]) -> None:
    default = evaluate(runs["llama"], data, beside=False)
    assert (default.window, default.stride) == (24, 12)  # the run's own context
    whole = evaluate(runs["llama"], data, window=500, beside=False)
    assert any("longer than the 24 positions" in note for note in whole.notes)
    nats, _ = _nats(load(runs["llama"]).model, data, data.tokenizer)
    assert whole.model.bits_per_byte == pytest.approx(nats / math.log(2) / whole.bytes, rel=1e-4)
    assert default.model.bits_per_byte != pytest.approx(whole.model.bits_per_byte, rel=1e-4)
    with pytest.raises(ValueError, match="--stride must lie between 1 and the window of 24, not 25"):
        evaluate(runs["llama"], data, stride=25)
    with pytest.raises(ValueError, match="--window must be at least 1, not 0"):
        evaluate(runs["llama"], data, window=0)


def test_learned_positions_bound_the_window(data: Dataset, runs: dict[str, Path]) -> None:
    result = evaluate(runs["gpt2"], data, window=500, beside=False)
    assert result.window == 24 and any("window 500 cut to 24" in note for note in result.notes)


def test_counting_and_compression_stand_beside_it(data: Dataset, runs: dict[str, Path]) -> None:
    result = evaluate(runs["gru"], data, "test", order=3)
    ngram, xz = result.beside
    assert ngram.name == "3-gram" and xz.name == "xz" and "primed with" in xz.about
    assert ngram.bits_per_byte < result.model.bits_per_byte  # random weights
    assert ngram.tokens == data.split("test").tokens and xz.perplexity is None and xz.interval is None


def test_an_n_gram_run_is_measured_like_any_other(data: Dataset, tmp_path: Path) -> None:
    from genus.train.counting import start_counting
    from genus.train.options import TrainOptions

    run = start_counting("ngram", data.root, tmp_path / "run", TrainOptions(overrides=("order=3",)), say=lambda _: None)
    result = evaluate(run.path, data, order=3)
    assert result.model.bits_per_byte == pytest.approx(result.beside[0].bits_per_byte, rel=1e-6)
    nats, _ = _nats(load(run.path).model, data, data.tokenizer)
    assert result.model.bits_per_byte == pytest.approx(nats / math.log(2) / result.bytes, rel=1e-4)


def test_few_documents_are_cut_into_blocks(data: Dataset, runs: dict[str, Path]) -> None:
    result = evaluate(runs["gru"], data, documents=3, beside=False)
    assert result.documents == 3 and "blocks of 16 tokens of fewer than 20 documents" in result.notes[0]
    assert result.model.interval[0] < result.model.bits_per_byte < result.model.interval[1]


def test_a_hugging_face_folder(data: Dataset, runs: dict[str, Path]) -> None:
    result = evaluate(runs["llama"] / "model", data, beside=False)
    assert result.window == 24  # max_position_embeddings
    assert result.model.bits_per_byte == pytest.approx(evaluate(runs["llama"], data, beside=False).model.bits_per_byte)


def test_a_model_without_a_tokenizer(data: Dataset, runs: dict[str, Path]) -> None:
    loaded = load(runs["gru"])
    result = evaluate(dataclasses.replace(loaded, tokenizer=None), data, beside=False)
    assert any("brings no tokenizer" in note for note in result.notes)


def test_a_vocabulary_that_does_not_fit(data: Dataset, tmp_path: Path) -> None:
    recipe = recipes.make("gru", dim=8, depth=1, vocab=100)
    huggingface.save(tmp_path / "model", recipe.model.build(), recipe)
    with pytest.raises(ValueError, match="the model has 100 tokens and the tokenizer"):
        evaluate(tmp_path / "model", data)


def test_unsuitable_models_and_splits(data: Dataset, runs: dict[str, Path], tmp_path: Path) -> None:
    recipe = recipes.make("bert", dim=16, depth=1, heads=2, vocab=data.vocab_size, context=24)
    huggingface.save(tmp_path / "bert", recipe.model.build(), recipe, data.tokenizer)
    with pytest.raises(ValueError, match="sees both sides of a token"):
        evaluate(tmp_path / "bert", data)
    with pytest.raises(ValueError, match="no 'dev' split"):
        evaluate(runs["gru"], data, "dev")


def test_word_tokens_lose_text(data: Dataset, runs: dict[str, Path], tmp_path: Path) -> None:
    words = prepare([data.root.parent / "texts.jsonl"], tmp_path / "data", tokenizer="words", validation=0.2, workers=1)
    with pytest.raises(ValueError, match=r"word tokenizer, which loses text.*--tokenizer bpe, bytes or chars"):
        evaluate(runs["gru"], tmp_path / "data")
    recipe = recipes.make("gru", dim=8, depth=1, vocab=words.vocab_size)
    huggingface.save(tmp_path / "model", recipe.model.build(), recipe, words.tokenizer)
    result = evaluate(tmp_path / "model", tmp_path / "data", beside=False)
    assert any("<unk>" in note for note in result.notes)


def test_the_command(data: Dataset, runs: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(cli.Options(runs["llama"], data.root, order=2, json=tmp_path / "deep" / "r.json", quiet=True)) == 0
    out, err = capsys.readouterr()
    saved = json.loads((tmp_path / "deep" / "r.json").read_text(encoding="utf-8"))
    assert f"{saved['model']['bits_per_byte']:.4f}" in out and "2-gram" in out and "per char." in out
    assert "window 24, stride 12, float32" in out and not err
    assert saved["fingerprint"] == data.fingerprint and len(saved["beside"]) == 2
    assert cli.main(cli.Options(runs["gru"], data.root, alone=True)) == 0
    out, err = capsys.readouterr()
    assert "2-gram" not in out and "thousand tokens" in err
