"""What a sublayer may look at: documents, positions, masks; all against loops."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from genus.parts.ctx import CAUSAL, FULL, NOISE, PADDING, Ctx, attention_mask, document_positions, previous_document

_rows = st.integers(1, 12).flatmap(
    lambda t: st.lists(st.lists(st.integers(-1, 2), min_size=t, max_size=t), min_size=1, max_size=3)
)


def _before(row: list[int], last: int = PADDING) -> list[int]:
    result = []
    for d in row:
        result.append(last)
        last = d if d != PADDING else last
    return result


@settings(max_examples=80, deadline=None)
@given(_rows, st.integers(-1, 2))
def test_documents_against_loops(rows: list[list[int]], last: int) -> None:
    doc, ends = torch.tensor(rows), torch.full((len(rows),), last)
    assert previous_document(doc, ends).tolist() == [_before(r, last) for r in rows]
    assert previous_document(doc, None).tolist() == [_before(r) for r in rows]
    ctx = Ctx(document_positions(doc), doc, last_doc=ends)
    fresh = [[d != b and PADDING not in (d, b) for d, b in zip(r, _before(r, last), strict=True)] for r in rows]
    assert (ctx.fresh.tolist() if ctx.fresh is not None else None) == (fresh if any(map(any, fresh)) else None)
    pad = [[d == PADDING for d in r] for r in rows]
    assert (ctx.pad.tolist() if ctx.pad is not None else None) == (pad if any(map(any, pad)) else None)
    positions = document_positions(doc)
    for row, found in zip(rows, positions.tolist(), strict=True):
        now, document = -1, PADDING
        for d, p in zip(row, found, strict=True):
            if d == PADDING:
                assert p >= 0  # any valid index will do
                continue
            now = now + 1 if d == document else 0
            document = d
            assert p == now


def test_without_documents_nothing_is_fresh_or_padding() -> None:
    ctx = Ctx(torch.arange(4))
    assert ctx.fresh is None and ctx.pad is None


def _loop(ctx: Ctx, time: int, keys: int, causal: bool, window: int | None) -> Tensor:
    """The definition of `attention_mask`, one pair at a time. Query i stands at key i + keys - time."""
    batch = 1 if ctx.doc is None and ctx.span is None else len(ctx.doc if ctx.doc is not None else ctx.span)
    see = torch.zeros(batch, 1, time, keys, dtype=torch.bool)
    for b in range(batch):
        for i in range(time):
            q = i + keys - time
            for k in range(keys):
                ok = k <= q or not causal
                if ctx.span is not None and ctx.kind is not None:
                    same = ctx.span[b, q] == ctx.span[b, k]
                    ok = ok or bool(same and ctx.kind[b, k] in (FULL, NOISE))  # inside a clean or noisy span all see all
                    ok = ok and bool(same or ctx.kind[b, k] != NOISE)  # and nobody else sees noise
                if window is not None:
                    ok = ok and (q - k < window) and (causal or k - q < window)
                if ctx.doc is not None and ctx.key_doc is not None:
                    ok = (ok and bool(ctx.doc[b, i] == ctx.key_doc[b, k - keys])) or k == q
                see[b, 0, i, k] = ok
    return see


def test_masks_against_a_loop() -> None:
    doc = torch.tensor([[0, 0, 0, 1, 1, 2, 2, 2], [-1, -1, 3, 3, 3, 3, 4, -1]])
    past = torch.tensor([[9, 0, 0], [-1, -1, -1]])
    for causal in (True, False):
        for window in (None, 1, 3, 8, 20):
            for time, keys in ((8, 8), (1, 8), (3, 8), (8, 11)):
                now = doc[:, 8 - time :]
                key_doc = torch.cat([past, doc], dim=1)[:, -keys:]
                for ctx in (Ctx(torch.arange(time)), Ctx(torch.arange(time), now, keys - time, key_doc)):
                    mask = attention_mask(ctx, time, keys, causal, window)
                    expected = _loop(ctx, time, keys, causal, window)
                    if mask is None:
                        plain = (
                            torch.ones(time, keys).tril(keys - time).bool()
                            if causal and time > 1
                            else torch.ones(time, keys).bool()
                        )
                        assert torch.equal(expected, plain.expand_as(expected))
                    else:
                        assert torch.equal(mask.expand_as(expected), expected)
                    assert expected.any(-1).all()


def test_spans_against_a_loop() -> None:
    """Text, a clean image, a noisy image, text: as models that write text and denoise images in one sequence need it."""
    span = torch.tensor([[0, 0, 1, 1, 1, 2, 2, 3, 3], [0, 1, 1, 2, 2, 2, 3, 3, 3]])
    kind = torch.tensor(
        [[CAUSAL] * 2 + [FULL] * 3 + [NOISE] * 2 + [CAUSAL] * 2, [CAUSAL] + [NOISE] * 2 + [FULL] * 3 + [CAUSAL] * 3]
    )
    doc = torch.tensor([[0] * 9, [0] * 6 + [1] * 3])
    for d in (None, doc):
        ctx = Ctx(torch.arange(9), d, key_doc=d, span=span, kind=kind)
        mask = attention_mask(ctx, 9, 9, True, None)
        assert mask is not None and torch.equal(mask, _loop(ctx, 9, 9, True, None))
    first = mask[0, 0]
    assert first[2, 4] and not first[1, 2] and first[7, 3] and not first[7, 5] and first[5, 6] and first[5, 3]


def test_no_mask_is_asked_for_when_the_kernel_has_it() -> None:
    ctx = Ctx(torch.arange(8))
    assert attention_mask(ctx, 8, 8, True, None) is None
    assert attention_mask(ctx, 8, 8, True, 8) is None  # the window reaches everything
    assert attention_mask(ctx, 1, 8, True, None) is None  # a single step sees all keys
    assert attention_mask(ctx, 8, 8, False, None) is None
    assert attention_mask(ctx, 8, 8, True, 7) is not None
    assert attention_mask(ctx, 3, 8, True, None) is not None


def test_a_mask_is_built_once_per_forward() -> None:
    doc = torch.zeros(1, 4, dtype=torch.long)
    ctx = Ctx(torch.arange(4), doc, key_doc=doc)
    assert attention_mask(ctx, 4, 4, True, None) is attention_mask(ctx, 4, 4, True, None)
    assert attention_mask(ctx, 4, 4, True, 2) is not attention_mask(ctx, 4, 4, True, None)
