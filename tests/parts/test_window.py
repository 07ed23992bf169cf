"""The fixed window of Bengio et al. 2003."""

from __future__ import annotations

import torch

from genus.parts.ctx import Ctx, document_positions
from genus.parts.window import Window


def test_previous_inputs_side_by_side() -> None:
    x = torch.randn(1, 6, 2)
    window = Window(3).build(2)
    y = window(x, Ctx(torch.arange(6)))
    assert y.shape == (1, 6, 6) and Window(3).width(2) == 6
    zero = torch.zeros(2)
    for t in range(6):
        taps = [x[0, t - back] if t >= back else zero for back in range(3)]
        torch.testing.assert_close(y[0, t], torch.cat(taps))


def test_zeros_stand_before_every_document() -> None:
    x = torch.randn(1, 6, 2)
    doc = torch.tensor([[0, 0, 0, 1, 1, 1]])
    y = Window(3).build(2)(x, Ctx(document_positions(doc), doc, key_doc=doc))
    alone = Window(3).build(2)(x[:, 3:], Ctx(torch.arange(3)))
    torch.testing.assert_close(y[:, 3:], alone)


def test_state_keeps_the_last_tokens_that_are_not_padding() -> None:
    window = Window(3).build(1)
    state = window.init_state(2, 9, torch.float32, torch.device("cpu"))
    x = torch.tensor([[1.0, 2.0, 3.0, 9.0], [9.0, 9.0, 9.0, 5.0]])[..., None]
    doc = torch.tensor([[0, 0, 0, -1], [-1, -1, -1, 0]])
    window(x, Ctx(document_positions(doc), doc, key_doc=doc), state)
    assert state["inputs"][..., 0].tolist() == [[2.0, 3.0], [0.0, 5.0]]


def test_window_of_one_is_the_input() -> None:
    x = torch.randn(2, 5, 3)
    window = Window(1).build(3)
    state = window.init_state(2, 5, torch.float32, torch.device("cpu"))
    assert torch.equal(window(x, Ctx(torch.arange(5)), state), x) and state["inputs"].shape == (2, 0, 3)
