"""The public face: every name it promises is there, and nothing else pretends to be."""

from pathlib import Path

import pytest

import genus


@pytest.mark.parametrize("name", sorted(set(dir(genus)) - {"demo"}))
def test_every_listed_name_resolves(name):
    assert getattr(genus, name) is not None


def test_a_name_that_is_not_there():
    with pytest.raises(AttributeError, match="no attribute 'recipies'"):
        _ = genus.recipies
    assert not hasattr(genus, "__path_hooks__")


def test_verbs_can_be_called(tmp_path: Path) -> None:
    """One small life through the public face."""
    text = tmp_path / "text.txt"
    text.write_text("\n".join(f"line {i} of a little text about {i * i} stones" for i in range(400)), encoding="utf-8")
    data = genus.prepare(text, tmp_path / "data", tokenizer="bytes", split_documents="line")
    run = genus.train(
        "gpt2", data.root, tmp_path / "run", "dim=32", "depth=1", "heads=2", tokens=4096, context=32, say=lambda _: None
    )
    assert genus.evaluate(run.path, data, beside=False).model.bits_per_byte < 8
    assert genus.generate(run.path, "line", max_tokens=5).text is not None
    assert genus.report([run.path]).is_file()
