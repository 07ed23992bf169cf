"""The read-out."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from genus.parts import head as head_module
from genus.parts.head import Head, Transform
from genus.parts.norm import LayerNorm


def _head(spec: Head, dim: int = 6, vocab: int = 11, width: int = 6) -> Head.Module:
    table = nn.Parameter(torch.randn(vocab, width))
    head = Head.Module(spec, dim, vocab, table)
    for p in head.parameters():
        nn.init.normal_(p)
    own = sum(p.numel() for p in head.parameters()) - (table.numel() if spec.tied else 0)
    assert spec.count(dim, vocab) == own
    return head


@pytest.mark.parametrize(
    "spec",
    [
        Head(),
        Head(tied=False, bias=True),
        Head(scale=0.25, softcap=3.0),
        Head(bias=True, transform=Transform("gelu", LayerNorm(1e-12))),
        Head(tied=False, transform=Transform(outputs=4)),
    ],
)
def test_loss_and_score_are_of_the_logits(spec: Head, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(head_module, "ROWS", 5)
    head = _head(spec)
    hidden, targets = torch.randn(2, 7, 6), torch.randint(0, 11, (2, 7))
    targets[0, :3] = -100
    logits = head(hidden)
    assert logits.shape == (2, 7, 11) and logits.dtype == torch.float32
    total, count = head.loss(hidden, targets)
    torch.testing.assert_close(total, F.cross_entropy(logits.view(-1, 11), targets.view(-1), reduction="sum"))
    assert int(count) == 11
    score = head.score(hidden, targets)
    torch.testing.assert_close(-score.sum(), total)
    assert (score[0, :3] == 0).all() and score.shape == (2, 7)


def test_fields() -> None:
    hidden = torch.randn(3, 6)
    plain = _head(Head())
    capped = Head.Module(Head(scale=0.5, softcap=2.0), 6, 11, plain.weight)
    torch.testing.assert_close(capped(hidden), 2.0 * torch.tanh(plain(hidden) * 0.5 / 2.0))
    bert = _head(Head(bias=True, transform=Transform()))
    inner = F.layer_norm(F.gelu(bert.transform.proj(hidden)), (6,), bert.transform.norm.weight, bert.transform.norm.bias, 1e-12)
    torch.testing.assert_close(bert(hidden), inner @ bert.weight.T + bert.bias)


def test_tying_needs_equal_widths() -> None:
    with pytest.raises(ValueError, match=r"table is 4 wide and the last layer 6; set model\.head\.tied=false"):
        _head(Head(), width=4)


def test_tied_table_is_one_parameter() -> None:
    table = nn.Parameter(torch.randn(11, 6))
    assert Head.Module(Head(), 6, 11, table).weight is table
