"""`genus explain`: a summary for the terminal, and a page."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import genus
from genus import cli
from genus.cli.explain import summary
from genus.evaluate.explain import SENTENCE, Explanation, Layer
from genus.export import huggingface
from genus.prepare.tokenizer import bytes_tokenizer


def folder(path: Path, name: str) -> str:
    recipe = genus.recipe(name, dim=32, depth=2, heads=2, vocab=257, context=128)
    huggingface.save(path / name, recipe.model.build().eval(), recipe, bytes_tokenizer())
    return str(path / name)


def test_terminal_and_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "new" / "page.html"
    assert cli.main(["explain", folder(tmp_path, "gpt2"), "--html", str(file)]) == 0
    told = capsys.readouterr().out
    assert told.startswith(SENTENCE) and 'what "t" looks at, mean over the heads of a layer' in told  # of "it", spelt in bytes
    assert "  layer 2" in told and told.strip().endswith(str(file))
    assert SENTENCE.replace("'", "&#x27;") in file.read_text(encoding="utf-8")


def test_an_encoder_decoder_answers_by_itself(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = folder(tmp_path, "t5")
    assert cli.main(["explain", model, "it", "--target", "was"]) == 0
    told = capsys.readouterr().out
    assert "-> was" in told and "of the source looks at" in told and "looks at in the source" in told
    assert cli.main(["explain", model, "it"]) == 0


def test_errors(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["explain", folder(tmp_path, "lstm")]) == 2
    assert "neither attention nor fast weights" in capsys.readouterr().err
    assert cli.main(["explain", folder(tmp_path, "gpt2"), "it", "--word", "street"]) == 2
    assert "there is no 'street'; the tokens are: <|endoftext|> i t" in capsys.readouterr().err


def layer(weights: list[list[float]], **more: torch.Tensor) -> Layer:
    return Layer("stack.layers.1.parts.0", 1, "text", "softmax", torch.tensor([weights]), **more)


def test_the_summary_names_what_is_largest() -> None:
    weights = [[1.0, 0, 0], [0.3, 0.7, 0], [0.6, 0.1, 0.3]]
    write = torch.tensor([[0.5, 3.0, 1.0]])
    found = Explanation(("The", " dog", " it"), (), (layer(weights, write=write, beta=torch.full((1, 3), 0.25)),))
    lines = list(summary(found))
    assert '\nwhat "it" looks at, mean over the heads of a layer' in lines
    assert "  layer 2     The 0.60  it 0.30  dog 0.10" in lines
    assert "  layer 2, head 1: The 0.60" in lines
    assert "  layer 2     dog 3.00  it 1.00  The 0.50   (beta 0.25 on the average)" in lines
    for word in ("dog", "2"):
        assert 'what "dog" looks at' in "\n".join(summary(found, word))
    split = Explanation(("The", " d", "og"), (), found.layers)
    assert 'what "og" looks at' in "\n".join(summary(split, "dog"))  # the last part knows the whole word
    with pytest.raises(ValueError, match="there is no 'cat'; the tokens are: The dog it"):
        list(summary(found, "cat"))
