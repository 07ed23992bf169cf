"""T5, part by part and token by token: encoder, decoder, and greedy generation with a state."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from genus.export import huggingface

from .conftest import ATOL, T5, T5_V1_1, VOCAB, Case

transformers = pytest.importorskip("transformers")

START, END, NEW = 0, 1, 20


@pytest.fixture(params=[T5, T5_V1_1], ids=["t5", "t5-v1.1"])
def pair(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Any, Any]:
    sizes = {"num_decoder_layers": 2, "decoder_start_token_id": START}  # its cache cannot be deeper than the encoder
    peer = Case("T5ForConditionalGeneration", "T5Config", request.param | sizes).build()
    with torch.no_grad():
        for p in peer.decoder.block.parameters():  # louder than the tied table, which would say the last word again
            p.add_(torch.randn_like(p) * 0.5)
    peer.save_pretrained(tmp_path)
    return peer, huggingface.load(tmp_path)[0]


@pytest.fixture
def source() -> tuple[Tensor, Tensor]:
    ids = torch.randint(2, VOCAB, (4, 19))
    mask = torch.ones_like(ids)
    mask[1, 11:] = mask[3, 4:] = 0
    return ids * mask, mask


@torch.no_grad()
def test_encoder(pair: tuple[Any, Any], source: tuple[Tensor, Tensor]) -> None:
    (peer, ours), (ids, mask) = pair, source
    theirs = peer.get_encoder()(input_ids=ids, attention_mask=mask).last_hidden_state
    assert (ours.encode(ids, mask - 1) - theirs)[mask.bool()].abs().max() < ATOL


@torch.no_grad()
def test_greedy_text_token_for_token(pair: tuple[Any, Any], source: tuple[Tensor, Tensor]) -> None:
    (peer, ours), (ids, mask) = pair, source
    options = {"max_new_tokens": NEW, "do_sample": False, "num_beams": 1, "eos_token_id": END, "pad_token_id": START}
    expected = peer.generate(input_ids=ids, attention_mask=mask, **options)
    state = ours.init_state(len(ids), NEW)
    last = torch.full((len(ids), 1), START)
    found, ended = [last], torch.zeros(len(ids), 1, dtype=torch.bool)
    given = {"source": ids, "source_doc": mask - 1}
    for _ in range(expected.shape[1] - 1):
        last = ours(last, state=state, **given)[:, -1:].argmax(-1).masked_fill(ended, START)
        ended |= last == END
        given = {}  # the state keeps what the encoder gave
        found.append(last)
    assert torch.equal(torch.cat(found, dim=1), expected)
    assert len(expected.unique()) > 3  # it does not say one word over and over
