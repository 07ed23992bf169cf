"""Layouts are undone exactly, and rules find every index."""

import pytest
import torch

from genus.export.rules import LAYOUTS, Rule, bind, pair, same

HEADS = 4


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_are_inverses(layout: str) -> None:
    shape = {"gate_up_experts": (4, 6, 8), "experts": (4, 6, 8)}.get(layout, (24, 24))
    theirs = torch.randn(shape)
    kind = LAYOUTS[layout]
    parts = kind.split(theirs, HEADS)
    assert torch.equal(kind.join(parts, HEADS), theirs)
    assert sum(p.numel() for p in parts) == theirs.numel()


def test_by_head_puts_each_heads_rows_together() -> None:
    q, k, v = (torch.arange(8.0) + 100 * i for i in range(3))
    joined = LAYOUTS["by_head"].join([q, k, v], HEADS)
    assert joined[:6].tolist() == [0, 1, 100, 101, 200, 201]


def test_bind_repeats_a_rule_for_every_layer_and_drops_what_we_do_not_have() -> None:
    names = ["a.0.w.weight", "a.0.w.bias", "a.11.w.weight", "b.weight"]
    bound = bind([*pair("their.{}.x", "a.{}.w"), same("their.b", "b.weight"), same("their.c", "c.weight")], names)
    assert [(b.theirs, b.ours) for b in bound] == [
        ("their.0.x.weight", ("a.0.w.weight",)),
        ("their.11.x.weight", ("a.11.w.weight",)),
        ("their.0.x.bias", ("a.0.w.bias",)),
        ("their.b", ("b.weight",)),
    ]


def test_a_star_gathers_all_experts_of_a_layer_in_order() -> None:
    names = [f"l.{layer}.e.{e}.{x}" for layer in range(2) for e in range(11) for x in ("g", "u")]
    bound = bind([Rule("t.{}.gu", ("l.{}.e.*.g", "l.{}.e.*.u"), "gate_up_experts")], names)
    assert [b.theirs for b in bound] == ["t.0.gu", "t.1.gu"]
    assert bound[1].ours[:3] == ("l.1.e.0.g", "l.1.e.0.u", "l.1.e.1.g")
    assert bound[1].ours[-1] == "l.1.e.10.u"
