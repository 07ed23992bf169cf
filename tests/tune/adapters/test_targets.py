"""The words for matrices mean the same on every branch."""

from __future__ import annotations

import pytest

from genus.recipes import make
from genus.tune.adapters import matrices, select


def _model(name: str, **sizes: int):
    return make(name, **({"dim": 32, "depth": 2, "heads": 4, "vocab": 61} | sizes)).model.build(0)


def _ends(model, *targets: str) -> set[str]:
    return {name.rpartition(".")[2] for name in select(model, targets)}


def test_attention_is_the_token_mixers() -> None:
    assert _ends(_model("llama"), "attention") == {"q_proj", "k_proj", "v_proj", "o_proj"}
    assert _ends(_model("mixtral"), "attention") == {"q_proj", "k_proj", "v_proj", "o_proj"}
    assert _ends(_model("deltanet"), "attention") >= {"q_proj", "k_proj", "v_proj", "o_proj", "b_proj"}
    assert _ends(make("lstm", dim=32, depth=2, vocab=61).model.build(0), "attention") == {"weight_ih", "weight_hh"}


def test_all_linear_leaves_out_tables_and_the_read_out() -> None:
    model = _model("llama")
    assert len(select(model, ["all-linear"])) == 2 * 7
    assert set(matrices(model)) - set(select(model, ["all-linear"])) == {"embed.tokens", "head"}
    assert "embed.projection" in select(make("albert").model.build(0), ["all-linear"])


def test_a_tied_matrix_has_both_names() -> None:
    model = _model("gpt2")
    assert list(select(model, ["head"])) == list(select(model, ["embed.tokens"])) == ["embed.tokens"]


def test_ends_of_names_and_patterns() -> None:
    model = _model("llama")
    assert list(select(model, ["layers.1.parts.0.q_proj"])) == ["stack.layers.1.parts.0.q_proj"]
    assert len(select(model, ["q_proj", "v_proj"])) == 4
    assert len(select(model, [r"stack\.layers\.0\..*"])) == 7
    assert not _ends(model, "gate_proj") & {"q_proj"}


@pytest.mark.parametrize(
    "target, message",
    [("query", "q_proj"), ("proj", "did you mean|choose one of"), ("(", "neither the end of a name nor")],
)
def test_a_target_that_is_not_there(target: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        select(_model("llama"), [target])


def test_a_model_without_token_mixers_that_multiply() -> None:
    with pytest.raises(ValueError, match=r"'attention' means; name some of: .*proj"):
        select(make("nnlm", dim=32, vocab=61).model.build(0), ["attention"])


def test_the_counted_have_no_matrices() -> None:
    with pytest.raises(ValueError, match="neural"):
        matrices(make("ngram", vocab=61).model.build(0))
