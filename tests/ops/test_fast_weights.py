"""The paths by chunks compute the recurrence: values, gradients, documents, padding, carried state, every rule."""

from functools import partial

import pytest
import torch
import torch.nn.functional as F

from genus.ops import native
from genus.ops.dispatch import forced
from genus.ops.fast_memory import empty_memory
from genus.ops.fast_weights import fast_weights
from genus.ops.memory_scan import delta_scan
from genus.ops.unit_lower import unit_lower_inverse

CHUNKED, NATIVE = (fast_weights.paths[name][1] for name in ("chunked", "native chunks"))
B, H, K, V = 2, 3, 5, 4
needs_kernel = pytest.mark.skipif(native.library("chunks") is None, reason="no kernels in C here")
both = pytest.mark.parametrize("path", [CHUNKED, pytest.param(NATIVE, marks=needs_kernel)], ids=["torch", "C"])


def draw(time, *, delta=False, decay=False, fresh=False, pad=False, memory=False, normalise=False, sizes=(K, V)):
    """Random arguments in float64; features are positive where outputs are normalised."""
    features, values = sizes
    q, k = (torch.randn(B, H, time, features, dtype=torch.float64) for _ in range(2))
    if normalise:
        q, k = q.abs() + 0.1, k.abs() + 0.1
    arguments = {"q": q, "k": F.normalize(k, dim=-1), "v": torch.randn(B, H, time, values, dtype=torch.float64)}
    if decay:
        arguments["log_decay"] = -torch.randn(B, H, time, dtype=torch.float64).exp()
    if delta:
        arguments["beta"] = torch.rand(B, H, time, dtype=torch.float64) * 1.8
    if memory:
        total = torch.rand(B, H, features, dtype=torch.float64) if normalise else None
        arguments["memory"] = (torch.randn(B, H, features, values, dtype=torch.float64), total)
    if fresh:
        arguments["fresh"] = torch.rand(B, time) < 0.15
    if pad:
        arguments["pad"] = torch.rand(B, time) < 0.2
    return arguments | {"normalise": normalise}


def in_precision(arguments, dtype):
    """Copies: what is multiplied in this precision, the rest in float32."""

    def convert(name, value):
        if isinstance(value, tuple):
            return tuple(convert(name, x) for x in value)
        if not isinstance(value, torch.Tensor) or not value.is_floating_point():
            return value
        return value.detach().to(dtype if name in ("q", "k", "v") else torch.promote_types(dtype, torch.float32))

    return {name: convert(name, value) for name, value in arguments.items()}


def outputs_and_gradients(path, arguments):
    """The output, the memory after it, and what comes back from all of them to every argument."""
    inputs = [t.requires_grad_() for t in leaves(arguments)]
    y, (matrix, total) = path(**arguments)
    outputs = [y, matrix, *([] if total is None else [total])]
    torch.manual_seed(1)
    loss = sum((o * torch.randn(o.shape, dtype=torch.float64).to(o.dtype)).sum() for o in outputs)
    return [*outputs, *torch.autograd.grad(loss, inputs)]


def leaves(arguments):
    tensors = [*arguments.values(), *arguments.get("memory", ())]
    return [t for t in tensors if isinstance(t, torch.Tensor) and t.is_floating_point()]


@pytest.mark.parametrize("normalise", [False, True], ids=["plain", "normalised"])
@pytest.mark.parametrize("decay", [False, True], ids=["", "decay"])
@pytest.mark.parametrize("delta", [False, True], ids=["sum", "delta"])
@pytest.mark.parametrize("time", [2, 16, 37])
def test_chunked_is_the_recurrence(delta, decay, normalise, time):
    """Documents begin in the middle of chunks, padding stands anywhere, also where a document would begin."""
    for fresh, pad, memory in [(False, False, False), (True, False, True), (False, True, True), (True, True, False)]:
        arguments = draw(time, delta=delta, decay=decay, fresh=fresh, pad=pad, memory=memory, normalise=normalise)
        slow, fast = (outputs_and_gradients(path, arguments) for path in (fast_weights.reference, partial(CHUNKED, chunk=8)))
        for a, b in zip(fast, slow, strict=True):
            torch.testing.assert_close(a, b, atol=1e-9, rtol=1e-7)


@needs_kernel
@pytest.mark.parametrize("normalise", [False, True], ids=["plain", "normalised"])
@pytest.mark.parametrize("decay", [False, True], ids=["", "decay"])
@pytest.mark.parametrize("delta", [False, True], ids=["sum", "delta"])
@pytest.mark.parametrize(("time", "sizes"), [(2, (5, 3)), (64, (16, 48)), (85, (33, 70))])
@pytest.mark.parametrize(("dtype", "near"), [(torch.float32, 4e-6), (torch.bfloat16, 2e-2)], ids=["float32", "bfloat16"])
def test_kernel_is_the_recurrence(delta, decay, normalise, time, sizes, dtype, near):
    """By the norm of what differs from the recurrence in float64; near it, or not twice as far from it as the path in torch."""
    for fresh, pad, memory in [(False, False, False), (True, False, True), (True, True, True)]:
        drawn = draw(time, delta=delta, decay=decay, fresh=fresh, pad=pad, memory=memory, normalise=normalise, sizes=sizes)
        arguments = in_precision(drawn, dtype)
        assert fast_weights.chosen(**arguments) == "native chunks"
        found = outputs_and_gradients(NATIVE, arguments)
        others = outputs_and_gradients(CHUNKED, arguments)
        exact = outputs_and_gradients(fast_weights.reference, in_precision(arguments, torch.float64))
        for a, b, other in zip(found, exact, others, strict=True):
            assert a.shape == b.shape and (a - b).norm() <= max(near * b.norm() + 1e-6, 2 * (other - b).norm())
        assert [t.dtype for t in found[: 2 + normalise]] == [dtype, *[torch.float32] * (1 + normalise)]


@needs_kernel
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
def test_kernel_strides(dtype):
    """Heads of one projection side by side, numbers of a row that lie apart, an expanded decay and an expanded gradient."""
    whole = torch.randn(2, 70, 3, 2, 20).to(dtype).requires_grad_()
    log_decay, beta = torch.tensor([-0.1, -0.5])[:, None].expand(2, -1, 70), torch.full((70,), 0.5).expand(2, 2, -1)
    apart = torch.randn(2, 2, 20, 70).to(dtype).requires_grad_()
    q, k, v = whole.transpose(1, 3).unbind(2)
    memory = torch.randn(2, 2, 20, 20).mT, None
    for last in (v, apart.mT):
        found = []
        for path in (NATIVE, fast_weights.reference):
            y, (matrix, _) = path(q, F.normalize(k, dim=-1), last, log_decay, beta, memory)
            found.append([y, matrix, *torch.autograd.grad(y.sum(), [whole, apart][: 1 + (last is not v)])])
        for a, b in zip(*found, strict=True):
            assert (a - b).norm() < (2e-2 if dtype == torch.bfloat16 else 4e-6) * b.norm()


@needs_kernel
def test_kernel_with_several_threads(monkeypatch):
    """Bit for bit the same, with and without gradients: a head is worked on by one thread."""
    arguments = in_precision(draw(200, delta=True, decay=True, memory=True, sizes=(40, 40)), torch.bfloat16)
    found = []
    for threads in (1, 2, 5):
        monkeypatch.setattr(torch, "get_num_threads", lambda n=threads: n)
        found.append(outputs_and_gradients(NATIVE, arguments))
        with torch.no_grad():
            y, (matrix, _) = NATIVE(**arguments)
        assert torch.equal(y, found[-1][0]) and torch.equal(matrix, found[-1][1])
    assert all(torch.equal(a, b) for other in found[1:] for a, b in zip(found[0], other, strict=True))


@needs_kernel
def test_kernel_tells_what_is_not_a_number():
    """Nothing of it reaches earlier chunks, other heads, or what stands in padding."""
    for name in ("q", "k", "v", "log_decay", "beta"):
        a = in_precision(draw(140, delta=True, decay=True), torch.float32)
        a[name][0, 0, 70] = float("nan")
        y, (matrix, _) = NATIVE(**a)
        assert y[0, 0, 70].isnan().all() and y[0, 0, :64].isfinite().all() and y[0, 1:].isfinite().all()
        assert y[1:].isfinite().all() and (name == "q" or (y[0, 0, 70:].isnan().all() and matrix[0, 0].isnan().all()))
        pad = torch.zeros(B, 140, dtype=torch.bool)
        pad[0, 70] = True
        assert all(t.isfinite().all() for t in outputs_and_gradients(NATIVE, a | {"pad": pad}))


@needs_kernel
def test_what_the_kernel_leaves_to_others():
    a = in_precision(draw(9, delta=True, memory=True), torch.float32)
    assert fast_weights.chosen(**a) == "native chunks"
    assert fast_weights.chosen(**a | {"v": a["v"].bfloat16()}) == "chunked"
    assert fast_weights.chosen(**a | {"memory": (a["memory"][0].double(), None)}) == "chunked"
    assert fast_weights.chosen(**in_precision(a, torch.float64)) == "chunked"
    one = {n: t[:, :, :1] if n in ("q", "k", "v", "beta") else t for n, t in a.items()}
    assert fast_weights.chosen(**one) != "native chunks"
    for misfit in (
        {"k": a["k"][:, :, :8]},
        {"v": a["v"][:, :2]},
        {"fresh": torch.zeros(B, 9)},
        {"memory": (torch.zeros(B, H, V, K), None)},
    ):
        assert fast_weights.chosen(**a | misfit) == "chunked"
    with pytest.raises(RuntimeError, match="expanded size"):
        fast_weights(**a | {"beta": a["beta"][:, :, :8]})


@pytest.mark.parametrize("delta", [False, True])
@pytest.mark.parametrize("decay", [False, True])
def test_memory_carries_on(delta, decay):
    """Two calls are one; single steps too."""
    whole = draw(21, delta=delta, decay=decay, normalise=True, fresh=True, pad=True)
    expected, (matrix, total) = fast_weights(**whole)
    for pieces in ([13, 8], [1] * 21, [16, 1, 4]):
        memory, outputs, start = None, [], 0
        for size in pieces:
            part = {n: t.narrow(-1 if t.dim() in (2, 3) else 2, start, size) for n, t in whole.items() if n != "normalise"}
            y, memory = fast_weights(**part, normalise=True, memory=memory)
            outputs.append(y)
            start += size
        torch.testing.assert_close(torch.cat(outputs, dim=2), expected)
        torch.testing.assert_close(memory, (matrix, total))


def test_sum_rule_is_the_outer_product_memory():
    """The fast weight programmer of 1991: y_t = (sum of v k') q, written out."""
    a = draw(7)
    y, (matrix, _) = fast_weights(**a)
    for t in range(7):
        weights = sum(a["k"][:, :, i, :, None] * a["v"][:, :, i, None, :] for i in range(t + 1))
        torch.testing.assert_close(y[:, :, t], torch.einsum("bhkv,bhk->bhv", weights, a["q"][:, :, t]))
    torch.testing.assert_close(matrix, weights)


def test_normalised_sum_rule_is_attention_with_a_kernel():
    a = draw(70, normalise=True)
    weights = (a["q"] @ a["k"].mT).tril()
    expected = weights / weights.sum(-1, keepdim=True) @ a["v"]
    torch.testing.assert_close(fast_weights(**a)[0], expected, atol=1e-4, rtol=1e-4)


def test_delta_rule_replaces_and_sum_rule_adds():
    key = F.normalize(torch.randn(1, 1, 1, 8), dim=-1)
    k, v = key.expand(-1, -1, 3, -1), torch.randn(1, 1, 3, 4)
    beta = torch.ones(1, 1, 3)
    torch.testing.assert_close(fast_weights(k, k, v, beta=beta)[0], v)
    torch.testing.assert_close(fast_weights(k, k, v)[0], v.cumsum(2))


def test_delta_rule_keeps_what_other_keys_hold():
    k = torch.eye(4)[None, None]
    v = torch.randn(1, 1, 4, 3)
    _, (matrix, _) = fast_weights(k, k, v, beta=torch.ones(1, 1, 4))
    torch.testing.assert_close(matrix, v)


@both
def test_no_output_depends_on_a_later_input(path):
    a = draw(30, delta=True, decay=True, normalise=True)
    a = a if path is CHUNKED else in_precision(a, torch.float32)
    before, _ = path(**a, chunk=16)
    for name in ("q", "k", "v", "log_decay", "beta"):
        changed = a[name].clone()
        changed[:, :, 19:] *= torch.rand_like(changed[:, :, 19:])
        after, _ = path(**a | {name: changed}, chunk=16)
        torch.testing.assert_close(after[:, :, :19], before[:, :, :19], atol=1e-12, rtol=0)
        assert not torch.allclose(after[:, :, 19:], before[:, :, 19:])


def test_padding_gives_zero_and_changes_nothing():
    a = draw(20, delta=True, decay=True, normalise=True)
    pad = torch.zeros(B, 20, dtype=torch.bool)
    pad[:, [0, 1, 7, 18, 19]] = True
    y, memory = fast_weights(**a, pad=pad)
    assert (y[:, :, pad[0]] == 0).all()
    real = {n: t[:, :, ~pad[0]] for n, t in a.items() if n != "normalise"}
    alone, alone_memory = fast_weights(**real, normalise=True)
    torch.testing.assert_close(y[:, :, ~pad[0]], alone)
    torch.testing.assert_close(memory, alone_memory)


@both
@pytest.mark.parametrize("delta", [False, True])
def test_steep_decays_neither_overflow_nor_lose_digits(delta, path):
    """exp(-160) a step, next to decays near one."""
    a = {n: t.float() if isinstance(t, torch.Tensor) else t for n, t in draw(128, delta=delta, decay=True).items()}
    a["log_decay"] = torch.where(torch.rand(B, H, 128) < 0.3, -160.0, -0.01)
    exact, _ = fast_weights.reference(**{n: t.double() if isinstance(t, torch.Tensor) else t for n, t in a.items()})
    inputs = [t.requires_grad_() for t in leaves(a)]
    y, _ = path(**a)
    assert all(g.isfinite().all() for g in torch.autograd.grad(y.square().sum(), inputs))
    torch.testing.assert_close(y.double(), exact, atol=2e-3, rtol=2e-3)


@both
def test_repeated_keys_do_not_break_the_triangular_inverse(path):
    """A chunk of one and the same key: powers of the system overflow float32's digits, substitution does not."""
    k = F.normalize(torch.ones(1, 1, 128, 16) + 0.01 * torch.randn(1, 1, 128, 16), dim=-1)
    v, beta = torch.randn(1, 1, 128, 16), torch.ones(1, 1, 128)
    exact, _ = fast_weights.reference(k.double(), k.double(), v.double(), beta=beta.double())
    torch.testing.assert_close(path(k, k, v, beta=beta)[0].double(), exact, atol=1e-3, rtol=1e-3)


def test_inverse_has_the_right_gradient():
    a = torch.randn(2, 8, 8, dtype=torch.float64, requires_grad=True)
    torch.testing.assert_close(unit_lower_inverse(a), torch.linalg.inv(torch.eye(8) + a.tril(-1)))
    assert torch.autograd.gradcheck(unit_lower_inverse, (a,))


@pytest.mark.parametrize("keep", [None, torch.rand(B, 1, 4, dtype=torch.float64)], ids=["", "fades"])
def test_delta_scan_is_its_definition(keep):
    v, used, k, start = (torch.randn(B, H, *s, dtype=torch.float64) for s in ((4, 6, V), (4, 6, K), (4, 6, K), (K, V)))
    inputs = [t.requires_grad_() for t in (v, used, k, keep, start) if t is not None]
    results = []
    for path in (delta_scan.reference, delta_scan):
        outputs = path(v, used, k, keep, start)
        torch.manual_seed(1)
        results.append([*outputs, *torch.autograd.grad(sum((o * torch.randn_like(o)).sum() for o in outputs), inputs)])
    for slow, fast in zip(*results, strict=True):
        torch.testing.assert_close(fast, slow)


@both
@pytest.mark.parametrize("delta", [False, True])
def test_bfloat16_keeps_its_memory_in_float32(delta, path):
    """Over many chunks the error is that of rounding the inputs and one chunk's products, not of a rounded memory."""
    k, q = (F.normalize(torch.randn(1, 2, 1000, 32), dim=-1).bfloat16() for _ in range(2))
    v, beta = torch.randn(1, 2, 1000, 32).bfloat16(), torch.rand(1, 2, 1000) if delta else None
    y, (matrix, _) = path(q, k, v, beta=beta)
    exact, (exact_matrix, _) = fast_weights.reference(q.float(), k.float(), v.float(), beta=beta)
    assert y.dtype == torch.bfloat16 and matrix.dtype == torch.float32
    assert (y.float() - exact).norm() < 0.01 * exact.norm()
    assert (matrix - exact_matrix).norm() < 0.01 * exact_matrix.norm()


def test_one_step_takes_the_recurrent_path():
    a = draw(1, delta=True)
    assert fast_weights.chosen(**a) == "reference"
    assert fast_weights.chosen(**draw(2)) == "chunked"
    with forced(fast_weights="chunked"):
        torch.testing.assert_close(fast_weights(**a)[0], fast_weights.reference(**a)[0])


def test_an_empty_memory_is_no_memory():
    a = draw(9, normalise=True)
    memory = empty_memory(a["q"], a["v"], True)
    torch.testing.assert_close(fast_weights(**a, memory=memory), fast_weights(**a))
