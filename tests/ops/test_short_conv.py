"""The depthwise causal convolution and its fast path."""

import pytest
import torch
import torch.nn.functional as F

from genus.ops.short_conv import short_conv


@pytest.mark.parametrize("borders", [False, True])
@pytest.mark.parametrize(("time", "width"), [(19, 4), (19, 2), (19, 1), (1, 4), (2, 4)])
def test_fast_path_is_the_reference(time, width, borders):
    x, past = torch.randn(3, time, 5, dtype=torch.float64), torch.randn(3, width - 1, 5, dtype=torch.float64)
    weight = torch.randn(5, width, dtype=torch.float64)
    fresh = torch.rand(3, time) < 0.3 if borders else None
    inputs = [t.requires_grad_() for t in (x, weight, past)]
    results = []
    for path in (short_conv.reference, short_conv.paths["convolution"][1]):
        y = path(x, weight, past, fresh)
        torch.manual_seed(1)
        results.append([y, *torch.autograd.grad(y, inputs, torch.randn_like(y), allow_unused=width == 1)])
    for slow, fast in zip(*results, strict=True):
        if slow is not None and fast is not None:
            torch.testing.assert_close(fast, slow)


@pytest.mark.parametrize("borders", [False, True])
@pytest.mark.parametrize(("batch", "time", "channels", "width"), [(3, 19, 5, 4), (1, 1, 70, 4), (2, 2, 16, 3), (2, 40, 130, 16)])
def test_the_kernel_is_the_reference(batch, time, channels, width, borders):
    x, past = torch.randn(batch, time, 2 * channels)[..., ::2], torch.randn(batch, width - 1, channels)
    weight = torch.randn(channels, width)
    fresh = torch.rand(batch, time) < 0.3 if borders else None
    if short_conv.chosen(x, weight, past, fresh) != "native":
        pytest.skip("no kernels here")
    for dtype, close in ((torch.float32, {}), (torch.bfloat16, {"rtol": 0.02, "atol": 0.05})):
        inputs = [t.to(dtype).requires_grad_() for t in (x, past)] + [weight.to(dtype).float().requires_grad_()]
        results = []
        for path, kind in ((short_conv.reference, torch.float32), (short_conv.paths["native"][1], dtype)):
            y = path(inputs[0].to(kind), inputs[2], inputs[1].to(kind), fresh)
            torch.manual_seed(1)
            results.append([y, *torch.autograd.grad(y, inputs, torch.randn(y.shape).to(dtype).to(kind))])
        for slow, fast in zip(*results, strict=True):
            torch.testing.assert_close(fast.float(), slow.float(), **close)


def test_it_is_a_convolution():
    x, weight = torch.randn(2, 9, 3), torch.randn(3, 4)
    expected = F.conv1d(F.pad(x.mT, (3, 0)), weight[:, None], groups=3).mT
    torch.testing.assert_close(short_conv(x, weight, torch.zeros(2, 3, 3)), expected)


def test_nothing_crosses_a_border():
    x, weight = torch.randn(1, 9, 3), torch.randn(3, 4)
    fresh = torch.zeros(1, 9, dtype=torch.bool)
    fresh[0, [0, 5]] = True
    zeros, ones = torch.zeros(1, 3, 3), torch.ones(1, 3, 3)
    expected = torch.cat([short_conv(x[:, :5], weight, zeros), short_conv(x[:, 5:], weight, zeros)], dim=1)
    torch.testing.assert_close(short_conv(x, weight, ones, fresh), expected)
