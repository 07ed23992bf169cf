"""Prompts on their way to the running rows."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from genus.generate.engine import Engine
from genus.generate.prefill import Prefill
from genus.run import Loaded


@torch.inference_mode()
def test_what_follows_a_short_prompt_outlasts_other_calls(small: Callable[..., Loaded], monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = small("llama")
    assert loaded.tokenizer is not None
    engine = Engine(loaded.model, loaded.tokenizer)
    read, places = engine.read, dict[torch.Size, Tensor]()

    def replayed(rows: Sequence[Sequence[int]], state: Any, every: bool = False) -> Tensor:
        """As a recorded step does, write to the same place every time."""
        logits = read(rows, state, every)
        return places.setdefault(logits.shape, torch.empty_like(logits)).copy_(logits)

    monkeypatch.setattr(engine, "read", replayed)
    prompts = [(256,), (256, 71, 111)]
    prefill = Prefill(engine, [(ids, None) for ids in prompts], None)
    while prefill.left:
        prefill.advance(2)
    for found, ids in zip(prefill.logits, prompts, strict=True):
        torch.testing.assert_close(found, loaded.model(torch.tensor([ids]))[0, -1])
