"""The properties that every recipe must have (one runner; a new recipe joins by being registered).

What a property is not meant for is named at the test, with the reason: `exempt`.
"""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from genus.ops import cross_entropy
from genus.ops.cross_entropy import IGNORE
from genus.ops.dispatch import OPS, forced
from genus.parts import head
from genus.parts.attention import Attention
from genus.parts.model import Model, forget_history
from genus.parts.positions import Alibi, RelativeBias
from genus.spec import diff, from_json, rewrite, to_json, walk

CLOSE = {"atol": 2e-4, "rtol": 1e-3}


@pytest.fixture(autouse=True)
def _no_gradients(request: pytest.FixtureRequest) -> Any:
    with torch.set_grad_enabled("gradients" in request.keywords):
        yield


def test_json_round_trip(case) -> None:
    text = json.dumps(to_json(case.recipe))
    again = from_json(json.loads(text))
    assert again == case.recipe and not diff(again, case.recipe)
    assert hash(again.model) == hash(case.spec)


@pytest.mark.exempt("counting", reason="its tables are buffers that its own tests compare with KenLM's")
def test_analytic_parameter_count(case) -> None:
    assert case.spec.parameters(0) == sum(p.numel() for p in case.model.parameters())


@pytest.mark.exempt("counting", reason="looks up, does not multiply")
def test_analytic_flops(case) -> None:
    """PyTorch's own counter sees the reference paths multiply, and the convolution, which its reference writes as sums.

    It counts masked scores too, which the analytic count leaves out; so the comparison is between models that see everything.
    """
    time = 24
    full = rewrite(case.spec, lambda p: p.replace(causal=False, window=None) if isinstance(p, Attention) else p)
    model = full.build()
    with forced(**dict.fromkeys(OPS, "reference") | {"short_conv": "convolution"}), FlopCounterMode(display=False) as counter:
        source = {"source": case.text(1, time)} if full.encoder else {}
        model(case.text(1, time), **source)
    assert counter.get_total_flops() == pytest.approx(time * full.flops(0, time), rel=1e-9)
    assert case.spec.flops(0, time) <= full.flops(0, time)


@pytest.mark.exempt("encoder", reason="sees both sides: test_encoders_look_ahead")
def test_causality(case) -> None:
    """No token changes a logit before it."""
    ids, source = case.text(2, 24), case.text(2, 9, seed=2)
    options = {"source": source} if case.kind == "encoder-decoder" else {}
    before = case(ids, **options)
    for t in (5, 17, 23):
        changed = ids.clone()
        changed[:, t:] = ids[:, t:] % 60 + 1
        after = case(changed, **options)
        assert torch.allclose(before[:, :t], after[:, :t], atol=1e-5)
        assert not torch.allclose(before[:, t], after[:, t], atol=1e-3)


@pytest.mark.only("encoder")
def test_encoders_look_ahead(case) -> None:
    """The test of causality can fail."""
    ids = case.text(2, 24)
    changed = ids.clone()
    changed[:, 17:] = ids[:, 17:] % 60 + 1
    assert not torch.allclose(case(ids)[:, :5], case(changed)[:, :5], atol=1e-3)


LENGTHS = ((5, 9, 10), (11, 1, 12))  # documents of two rows, borders at different places
NUMBERS = ((7, 3, 9), (0, 1, 2))  # ids need not be ordered


def _packed(case) -> tuple[Tensor, Tensor]:
    """Two rows of three documents, BOS at the head of each."""
    doc = torch.stack([torch.tensor(n).repeat_interleave(torch.tensor(m)) for n, m in zip(NUMBERS, LENGTHS, strict=True)])
    ids = case.text(2, 24)
    ids[:, 1:].masked_fill_(doc[:, 1:] != doc[:, :-1], 0)
    return ids, doc


def _documents(doc: Tensor) -> list[tuple[int, int, int]]:
    """(row, start, stop) of every run of one id."""
    runs = []
    for row, line in enumerate(doc.tolist()):
        borders = [0, *(t for t in range(1, len(line)) if line[t] != line[t - 1]), len(line)]
        runs += [(row, a, b) for a, b in pairwise(borders)]
    return runs


def test_packed_is_separate(case) -> None:
    """Documents in one row do not see each other."""
    ids, doc = _packed(case)
    together = case(ids, doc)
    for row, a, b in _documents(doc):
        alone = case(ids[row : row + 1, a:b])
        torch.testing.assert_close(together[row : row + 1, a:b], alone, **CLOSE)


@pytest.mark.only("encoder-decoder")
def test_packed_sources_are_separate(case) -> None:
    """`source_doc` says which source belongs to which document; sources may stand anywhere and have other lengths."""
    ids, doc = _packed(case)
    source = case.text(2, 15, seed=3)
    source_doc = torch.tensor([[3] * 2 + [9] * 6 + [7] * 4 + [-1] * 3, [-1] + [0] * 1 + [2] * 5 + [1] * 8])
    together = case(ids, doc, source=source, source_doc=source_doc)
    for row, a, b in _documents(doc):
        own = source[row, source_doc[row] == doc[row, a]][None]
        alone = case(ids[row : row + 1, a:b], source=own)
        torch.testing.assert_close(together[row : row + 1, a:b], alone, **CLOSE)


@pytest.mark.parametrize(("left", "right"), [(3, 0), (0, 4), (2, 5)])
def test_padded_is_alone(case, left: int, right: int) -> None:
    """Padding changes nothing, whatever stands on it; a longer row beside it decides its length."""
    text = case.text(2, 9 + left + right)
    doc = torch.zeros_like(text)
    doc[0, :left], doc[0, len(doc[0]) - right :] = -1, -1
    real = slice(left, left + 9)
    text[0, left] = 0
    padded = case(text, doc)
    assert padded.isfinite().all()
    torch.testing.assert_close(padded[:1, real], case(text[:1, real]), **CLOSE)
    torch.testing.assert_close(padded[1:], case(text[1:]), **CLOSE)


@pytest.mark.gradients
@pytest.mark.exempt("counting", reason="has no gradients")
def test_padding_has_no_gradient(case) -> None:
    ids = case.text(1, 9)
    targets = ids.roll(-1, 1)
    alone = _gradients(case, [(ids, targets, None)])
    wide = torch.cat([case.text(1, 3, seed=4), ids, case.text(1, 4, seed=5)], dim=1)
    doc = torch.tensor([[-1] * 3 + [0] * 9 + [-1] * 4])
    aim = torch.full_like(wide, IGNORE)
    aim[:, 3:12] = targets
    for name, grad in _gradients(case, [(wide, aim, doc)]).items():
        torch.testing.assert_close(grad, alone[name], atol=1e-3, rtol=1e-3, msg=lambda m, name=name: f"{name}: {m}")


def test_batch_is_rows(case) -> None:
    ids = case.text(3, 20)
    rows = torch.cat([case(row[None]) for row in ids])
    torch.testing.assert_close(case(ids), rows, **CLOSE)


def _in_pieces(case, ids: Tensor, pieces: list[int], doc: Tensor | None = None, source: Any = None) -> Tensor:
    """Logits of the whole text, handed over piece by piece with a state."""
    state = case.model.init_state(len(ids), ids.shape[1])
    outputs, start = [], 0
    for size in pieces:
        part = slice(start, start + size)
        options = dict(source or {}) if start == 0 else {}
        outputs.append(case(ids[:, part], None if doc is None else doc[:, part], state=state, **options))
        start += size
    assert start == ids.shape[1]
    return torch.cat(outputs, dim=1)


def _source(case, rows: int = 2) -> dict[str, Tensor]:
    return {"source": case.text(rows, 11, seed=6)} if case.kind == "encoder-decoder" else {}


@pytest.mark.exempt("encoder", reason="a later token changes earlier positions, so nothing can be kept")
@pytest.mark.parametrize("pieces", [[1] * 17, [7] + [1] * 10, [5, 1, 6, 5], [16, 1]], ids=["steps", "prefill", "chunks", "last"])
def test_state_is_one_forward(case, pieces: list[int]) -> None:
    ids, source = case.text(2, 17), _source(case)
    torch.testing.assert_close(_in_pieces(case, ids, pieces, source=source), case(ids, **source), **CLOSE)


@pytest.mark.only("encoder-decoder")
def test_state_with_sources_of_different_lengths(case) -> None:
    """Which part of the source is padding is remembered with the state."""
    ids, source = case.text(2, 17), case.text(2, 11, seed=6)
    source_doc = torch.zeros_like(source)
    source_doc[0, 7:] = -1
    together = _in_pieces(case, ids, [5, 1, 11], source={"source": source, "source_doc": source_doc})
    torch.testing.assert_close(together[:1], case(ids[:1], source=source[:1, :7]), **CLOSE)
    torch.testing.assert_close(together[1:], case(ids[1:], source=source[1:]), **CLOSE)


@pytest.mark.exempt("encoder", reason="a later token changes earlier positions, so nothing can be kept")
@pytest.mark.parametrize("pieces", [[8] + [1] * 9, [2, 3, 7, 5]], ids=["prefill", "chunks"])
def test_state_with_left_padding(case, pieces: list[int]) -> None:
    """Prompts of different lengths in one batch."""
    ids, source = case.text(2, 17), _source(case)
    doc = torch.zeros_like(ids)
    doc[0, :4] = -1
    together = _in_pieces(case, ids, pieces, doc, source)
    torch.testing.assert_close(together[1:], case(ids[1:], **{k: v[1:] for k, v in source.items()}), **CLOSE)
    torch.testing.assert_close(together[:1, 4:], case(ids[:1, 4:], **{k: v[:1] for k, v in source.items()}), **CLOSE)


@pytest.mark.exempt("encoder", reason="a later token changes earlier positions, so nothing can be kept")
@pytest.mark.exempt("encoder-decoder", reason="one source per state")
@pytest.mark.parametrize("pieces", [[5, 7, 1, 1, 10], [1] * 24, [11, 13]], ids=["chunks", "steps", "border"])
def test_state_forgets_at_a_border(case, pieces: list[int]) -> None:
    """A document that begins inside a piece, or with it, does not see what the state holds of the one before."""
    ids, doc = _packed(case)
    together = _in_pieces(case, ids, pieces, doc)
    for row, a, b in _documents(doc):
        torch.testing.assert_close(together[row : row + 1, a:b], case(ids[row : row + 1, a:b]), **CLOSE)


def _measures_by_index(case) -> bool:
    """Whether a mixer measures distance in places of the row, padding included."""
    return any(
        isinstance(p, Attention) and (p.window is not None or isinstance(p.position, Alibi | RelativeBias))
        for p in walk(case.spec)
    )


@pytest.mark.exempt("encoder", reason="a later token changes earlier positions, so nothing can be kept")
def test_state_after_right_padding(case) -> None:
    """Padding leaves a state untouched: the text goes on after it as if it were not there.

    Windows, ALiBi and T5's bias measure distance along the row, so with them a batch is padded on the left; what must hold
    then is that the row without padding does not notice.
    """
    ids, source = case.text(2, 17), _source(case)
    doc = torch.zeros_like(ids)
    doc[0, 6:10] = -1
    together = _in_pieces(case, ids, [10, 3, 1, 1, 2], doc, source)
    torch.testing.assert_close(together[1:], case(ids[1:], **{k: v[1:] for k, v in source.items()}), **CLOSE)
    if not _measures_by_index(case):
        real = torch.cat([ids[:1, :6], ids[:1, 10:]], dim=1)
        alone = case(real, **{k: v[:1] for k, v in source.items()})
        torch.testing.assert_close(together[:1, :6], alone[:, :6], **CLOSE)
        torch.testing.assert_close(together[:1, 10:], alone[:, 6:], **CLOSE)


@pytest.mark.exempt("history", reason="cannot do without it")
@pytest.mark.exempt("encoder-decoder", reason="a source belongs to one state: there is no stream of pairs")
def test_stream_goes_on(case) -> None:
    """Truncated back-propagation and long documents: cut from its history, a state of constant size loses nothing else."""
    ids, doc = _packed(case)
    for d in (None, doc):
        state, outputs = case.model.init_state(2, 24), []
        for a, b in pairwise([0, 4, 8, 13, 24]):
            outputs.append(case(ids[:, a:b], None if d is None else d[:, a:b], state=state))
            state = forget_history(state)
        torch.testing.assert_close(torch.cat(outputs, dim=1), case(ids, d), **CLOSE)


@pytest.mark.exempt("encoder", reason="a later token changes earlier positions, so nothing can be kept")
def test_state_is_data(case) -> None:
    """A copy of a state goes its own way: a server may fork a conversation."""
    ids, source = case.text(2, 12), _source(case)
    state = case.model.init_state(2, 12)
    case(ids[:, :6], state=state, **source)
    fork = _copy(state)
    case(case.text(2, 6, seed=9), state=state)
    torch.testing.assert_close(case(ids[:, 6:], state=fork), case(ids, **source)[:, 6:], **CLOSE)


def _copy(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _copy(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_copy(v) for v in value]
    return value.clone() if isinstance(value, Tensor) else value


@pytest.mark.exempt("counting", reason="no activations, so no precision to choose")
def test_bfloat16_follows_float32(case) -> None:
    """In a forward pass, and in steps with a state of either precision.

    The bound is wide for the normalised readings of delta memories: where one is nearly zero, rounding is all there is of it.
    """
    ids, source = case.text(2, 17), _source(case)
    exact = case(ids, **source)
    low = case(ids, dtype=torch.bfloat16, **source)
    assert low.dtype == torch.float32 and _error(low, exact) < 0.2
    if case.kind == "encoder":
        return
    for dtype in (torch.bfloat16, torch.float32):
        state = case.model.init_state(2, 17, dtype=dtype)
        parts = [case(ids[:, :8], state=state, dtype=torch.bfloat16, **source)]
        parts += [case(ids[:, t : t + 1], state=state, dtype=torch.bfloat16) for t in range(8, 17)]
        assert _error(torch.cat(parts, dim=1), exact) < 0.2


def _error(a: Tensor, b: Tensor) -> float:
    return float((a - b).norm() / b.norm())


def _gradients(case, batches: list[tuple[Tensor, Tensor, Tensor | None]]) -> dict[str, Tensor]:
    """Gradient of (sum of losses) / (sum of counts)."""
    case.model.zero_grad()
    total = sum(int((targets != IGNORE).sum()) for _, targets, _ in batches)
    for ids, targets, doc in batches:
        loss, count = case.whole_loss(ids, targets, doc)
        assert int(count) == int((targets != IGNORE).sum())
        (loss / total).backward()
    return {name: p.grad.clone() for name, p in case.model.named_parameters()}


@pytest.mark.gradients
@pytest.mark.exempt("counting", reason="has no gradients")
def test_fast_paths_are_the_references(case, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over the whole model, forward and backward, at a length that takes the fused, chunked and packed paths."""
    monkeypatch.setattr(cross_entropy, "CHUNK_BYTES", 1)  # sixteen rows at a time
    ids = case.text(2, 80)
    doc = torch.tensor([[0] * 80, [1] * 33 + [2] * 44 + [-1] * 3])
    for d in (None, doc):
        targets = ids.roll(-1, 1) if d is None else ids.roll(-1, 1).masked_fill(d < 0, IGNORE)
        fast = _gradients(case, [(ids, targets, d)])
        logits = case(ids, d)
        with forced(**dict.fromkeys(OPS, "reference")):
            slow = _gradients(case, [(ids, targets, d)])
            torch.testing.assert_close(logits, case(ids, d), atol=1e-3, rtol=1e-3)
        largest = max(float(grad.abs().max()) for grad in slow.values())
        for name, grad in fast.items():
            torch.testing.assert_close(grad, slow[name], atol=2e-5 * largest, rtol=2e-3, msg=lambda m, name=name: f"{name}: {m}")


@pytest.mark.gradients
@pytest.mark.exempt("counting", reason="has no gradients")
def test_accumulation(case) -> None:
    """Once 32 rows and 32 times one row give the same gradient, though every row has another number of targets.

    And every parameter has one, but a bias of the keys: it moves all scores of a query alike, which a softmax does not see.
    """
    ids = case.text(32, 6)
    targets = ids.roll(-1, 1)
    for row in range(32):
        targets[row, row % 6 + 1 :] = IGNORE
    together = _gradients(case, [(ids, targets, None)])
    singly = _gradients(case, [(ids[i : i + 1], targets[i : i + 1], None) for i in range(32)])
    for name, grad in together.items():
        torch.testing.assert_close(singly[name], grad, atol=2e-5, rtol=1e-3, msg=lambda m, name=name: f"{name}: {m}")
        assert grad.abs().max() > 1e-6 or name.endswith("k_proj.bias"), f"{name} has no influence on the loss"


@pytest.mark.exempt("encoder-decoder", reason="scores a target given a source: its objective's affair")
def test_score_is_log_softmax(case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(head, "ROWS", 7)
    ids, doc = _packed(case)
    targets = ids.roll(-1, 1)
    targets[0, 3:5] = IGNORE
    score = case.model.score(ids, targets, doc)
    expected = case(ids, doc).log_softmax(-1).gather(2, targets.clamp(min=0)[..., None])[..., 0]
    assert score.dtype == torch.float32 and (score[0, 3:5] == 0).all()
    torch.testing.assert_close(score, expected.masked_fill(targets == IGNORE, 0), **CLOSE)


@pytest.mark.exempt("counting", reason="has no loss to descend")
def test_loss_is_minus_the_score(case) -> None:
    ids = case.text(2, 12)
    targets = ids.roll(-1, 1).masked_fill(ids % 5 == 0, IGNORE)
    total, count = case.loss(ids, targets)
    log_p = case(ids).log_softmax(-1).gather(2, targets.clamp(min=0)[..., None])[..., 0]
    keep = targets != IGNORE
    torch.testing.assert_close(total, -log_p[keep].sum(), **CLOSE)
    assert int(count) == int(keep.sum())


def test_seed_decides_the_weights(case) -> None:
    if isinstance(case.spec, Model):
        models = []
        for seed in (3, 3, 4):
            torch.manual_seed(seed)
            models.append(case.spec.build().state_dict())
        assert all(torch.equal(models[0][k], models[1][k]) for k in models[0])
        assert not all(torch.equal(models[0][k], models[2][k]) for k in models[0])
