"""The tour sees what the dispatcher does, and its measure tells right from wrong."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from genus.doctor.timing import measure
from genus.doctor.tour import WORKS, Seen, Work, note, tour
from genus.ops.attention import attention
from genus.ops.decode_attention import Spans, decode_attention
from genus.ops.dispatch import OPS, Op, watched
from genus.ops.document_attention import Documents, document_attention, stretches
from genus.ops.dropout import dropout

CPU = torch.device("cpu")
TRAINING, DECODING = Work("training", "none", {}), Work("decoding", "none", {}, weights="bf16")


def small(work: Work) -> Work:
    """The same work in a fraction of the time."""
    less = {"dim": 64, "heads": 2, "vocab": 64, "hidden": 128, "context": 64}
    sizes = {name: less.get(name, value) for name, value in work.sizes.items()}
    return replace(work, sizes=sizes, rows=min(2, work.rows), time=min(32, work.time), source=min(16, work.source))


def test_what_models_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("genus.doctor.tour.READ", 20)
    said: list[str] = []
    seen = tour(CPU, [small(work) for work in WORKS], said.append)
    assert said == [work.what for work in WORKS]
    ops = {"rms_norm", "layer_norm", "linear", "linears", "rotary", "attention", "gated", "gelu_tanh", "linear_cross_entropy"}
    ops |= {"dropout", "document_attention", "fast_weights", "short_conv", "recurrent", "additive_attention", "decode_attention"}
    assert ops <= {s.op for s in seen}
    assert {s.weights for s in seen if s.what.startswith("training")} == {None}
    assert {"int8", "int4"} <= {s.weights for s in seen}
    assert len({s.kind for s in seen}) == len(seen)
    for s in seen:
        assert s.path == "reference" or s.path in OPS[s.op].paths
    names = [s.op for s in seen]
    assert names == sorted(names, key=names.index), "the paths of an op stand together"


@pytest.fixture
def double() -> Iterator[Op[..., Tensor]]:
    """An op with a path that is right for small numbers and wrong for large ones."""

    @Op
    def twice(x: Tensor, by: Any = 2.0) -> Tensor:
        return x @ torch.eye(x.shape[-1]) * by

    @twice.path("large", when=lambda x, by=2.0: float(x.detach().max()) > 10)
    def large(x: Tensor, by: Any = 2.0) -> Tensor:
        return x * by * 1.2

    @twice.path("plain", when=lambda *_, **__: True)
    def plain(x: Tensor, by: Any = 2.0) -> Tensor:
        return x * by

    yield twice
    del OPS["twice"]


def seen_of(work: Work, op: Any, *args: Any, **kwargs: Any) -> Seen | None:
    found: list[Seen | None] = []
    with watched(lambda call: found.append(note(work, call))):
        op(*args, **kwargs)
    return found[0]


def test_right_and_wrong(double: Op[..., Tensor]) -> None:
    x = torch.rand(4, 3, requires_grad=True)
    seen = seen_of(TRAINING, double, x, by=3.0)
    assert seen is not None and (seen.op, seen.path, seen.shapes, seen.wants) == ("twice", "plain", "4x3", (True,))
    speed = measure(seen, CPU)
    assert speed.right and speed.forward > 0 and speed.backward is not None and speed.backward > 0
    assert speed.operations == 2 * 4 * 3 * 3 and speed.bytes == 2 * 4 * 3 * 4
    seen = seen_of(DECODING, double, 100 * x)
    assert seen is not None and seen.path == "large"
    speed = measure(seen, CPU)
    assert not speed.right and speed.distance == pytest.approx(0.2) and speed.backward is None


def test_what_a_mask_hides_is_not_counted() -> None:
    q, k, v = (torch.randn(2, 3, 8, 4) for _ in range(3))
    pair = 2 * 2 * 3 * 4  # two products, over the heads and their width
    doc = torch.tensor([[0, 0, 1, 1, 1, 2, 2, 2], [0, 0, 0, 0, 0, 0, 1, -1]])
    documents = Documents(stretches(doc), 2, 8)
    same = (doc[:, :, None] == doc[:, None, :])[:, None] & (doc >= 0)[:, None, None, :]
    bias = torch.zeros(1, 3, 8, 8)
    spans = Spans([[(0, 8), (1, 8)], [(2, 5), (2, 6)]], 8, CPU)
    for pairs, op, *arguments in (
        (2 * 64, attention, q, k, v),
        (2 * 36, attention, q, k, v, None, True),
        (4 + 9 + 9 + 36 + 1, attention, q, k, v, same),
        (3 + 6 + 6 + 21 + 1, attention, q, k, v, same, True),
        (2 * 64, attention, q, k, v, bias),
        (2 * 36, attention, q, k, v, bias.masked_fill(torch.ones(8, 8).triu(1).bool(), float("-inf"))),
        (4 + 9 + 9 + 36 + 1, document_attention, q, k, v, documents),
        (3 + 6 + 6 + 21 + 1, document_attention, q, k, v, documents, True),
        (8 + 7 + 3 + 4, decode_attention, q[:, :, :2], k, v, spans),
    ):
        seen = seen_of(DECODING, op, *arguments)
        assert seen is not None and measure(seen, CPU).operations == pair * pairs


def test_chance_is_not_compared() -> None:
    seen = seen_of(TRAINING, dropout, torch.ones(8, 8, requires_grad=True), 0.5)
    assert seen is not None and measure(seen, CPU).distance is None and measure(seen, CPU).right


def test_nothing_done_is_not_told() -> None:
    assert seen_of(TRAINING, dropout, torch.ones(8, 8), 0.0) is None
