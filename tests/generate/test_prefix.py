"""Beginnings that were read before, for every kind of state."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from genus.generate.engine import Engine
from genus.generate.prefix import Prefixes
from genus.generate.state import at, leaves
from genus.run import Loaded

TEXT = [256, *range(40)]


def _filled(engine: Engine, prefixes: Prefixes, ids: list[int]) -> None:
    """Read a text block by block, as a prefill does, and keep every border."""
    state = engine.blank(1, len(ids))
    for a in range(0, len(ids), prefixes.block):
        part = ids[a : a + prefixes.block]
        engine.read([part], state)
        prefixes.keep(ids[: a + len(part)], None, state, 0, a)


@pytest.mark.parametrize("name", ["gpt2", "mistral", "lstm", "deltanet", "nnlm"])
@torch.inference_mode()
def test_what_is_found_is_what_was_read(small: Callable[..., Loaded], name: str) -> None:
    loaded = small(name)
    engine = Engine(loaded.model, loaded.tokenizer)
    prefixes = Prefixes(engine.layout, 1e9, block=8)
    assert prefixes.find(TEXT) is None
    _filled(engine, prefixes, TEXT)
    other = [*TEXT[:19], 77, *TEXT[20:]]
    for ids, length in ((TEXT, 40), (TEXT[:40], 32), (other, 16), (TEXT[:8], 0), ([1, *TEXT], 0)):
        assert prefixes.length(ids) == length
        state = prefixes.find(ids)
        assert (state is None) == (length == 0)
        if state is not None:
            expected = engine.blank(1, length)
            engine.read([ids[:length]], expected)
            assert state["start"].tolist() == [length]
            for path, _, _ in leaves(expected["layers"]):
                torch.testing.assert_close(at(state["layers"], path), at(expected["layers"], path), atol=1e-4, rtol=1e-4)


@torch.inference_mode()
def test_keys_and_values_are_kept_at_every_border_of_a_longer_piece(small: Callable[..., Loaded]) -> None:
    loaded = small("llama")
    engine = Engine(loaded.model, loaded.tokenizer)
    prefixes = Prefixes(engine.layout, 1e9, block=8)
    state = engine.blank(2, 41)
    engine.read([[1], TEXT], state)
    prefixes.keep(TEXT, None, state, 1, 0)
    assert prefixes.length(TEXT) == 40 and prefixes.nbytes > engine.layout.nbytes(1, 40)


@torch.inference_mode()
def test_the_oldest_goes_first_and_never_what_others_grow_from(small: Callable[..., Loaded]) -> None:
    loaded = small("gru")
    engine = Engine(loaded.model, loaded.tokenizer)
    one = Prefixes(engine.layout, 1e9, block=8)
    _filled(engine, one, TEXT[:9])
    prefixes = Prefixes(engine.layout, 5.5 * one.nbytes, block=8)
    first, second = TEXT[:25], [*TEXT[:8], *[9] * 25]
    _filled(engine, prefixes, first)  # blocks a b c
    _filled(engine, prefixes, second)  # a d e f: one too many, so c goes
    assert prefixes.nbytes <= 5.5 * one.nbytes
    assert prefixes.length(second) == 32 and prefixes.length(first) == 16
    prefixes.find(first)
    _filled(engine, prefixes, [5] * 17)  # two more: the end of `second` was not used for longest
    assert prefixes.length([5] * 17) == 16 and prefixes.length(first) == 16 and prefixes.length(second) == 16
    small_one = Prefixes(engine.layout, 0.5 * one.nbytes, block=8)
    _filled(engine, small_one, TEXT)
    assert small_one.nbytes == 0 and small_one.find(TEXT) is None


def test_a_block_is_no_longer_than_what_a_window_keeps(small: Callable[..., Loaded]) -> None:
    loaded = small("mistral")
    layout = Engine(loaded.model, loaded.tokenizer).layout
    assert layout.kept is not None
    with pytest.raises(ValueError, match=f"a window keeps {layout.kept}; take shorter ones"):
        Prefixes(layout, 1e9, block=layout.kept + 1)
    assert Prefixes(layout, 1e9, block=layout.kept).until(0, 10**6) == layout.kept
