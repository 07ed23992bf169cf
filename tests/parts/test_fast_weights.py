"""The mixer: its counts, its state, its refusals, and what its parts do."""

import pytest
import torch

from genus.parts.conv import ShortConv
from genus.parts.ctx import Ctx, document_positions
from genus.parts.fast_weights import Delta, FastWeights, FixedDecay, SelectiveDecay, Sum
from genus.parts.features import DPFP, EluPlusOne, Favor, Identity, UnitLength
from genus.parts.norm import RMSNorm
from genus.parts.positions import Rotary
from genus.spec import from_json, to_json

DIM = 32
PLAIN = FastWeights(4)
EVERYTHING = FastWeights(
    4, 0.5, 2.0, UnitLength(), Delta(2.0), SelectiveDecay(), False, RMSNorm(), "silu", ShortConv(3), Rotary(), chunk=8
)
MIXERS = {
    "plain": PLAIN,
    "everything": EVERYTHING,
    "1991": FastWeights(1, feature=Identity(), normalise=False),
    "favor": FastWeights(2, feature=Favor(20), decay=FixedDecay()),
    "dpfp": FastWeights(4, feature=DPFP(2), rule=Delta(), normalise=False, chunk=4),
    "elu delta": FastWeights(4, 5, 7, EluPlusOne(sum_norm=True), Delta(), FixedDecay(), chunk=4),
}


def context(time: int, doc=None, **more) -> Ctx:
    positions = torch.arange(time) if doc is None else document_positions(doc)
    return Ctx(positions, doc, key_doc=doc, **more)


def build(spec):
    module = spec.build(DIM)
    with torch.no_grad():
        for p in module.parameters():
            if p.dim() == 2:
                p.normal_(0, p.shape[1] ** -0.5)
    return module.eval()


@pytest.fixture(params=MIXERS)
def spec(request):
    return MIXERS[request.param]


def test_parameter_count(spec):
    assert spec.parameters(DIM) == sum(p.numel() for p in spec.build(DIM).parameters())


def test_json(spec):
    assert from_json(to_json(spec)) == spec


def test_pieces_are_one_forward(spec):
    """Also where a document begins or padding stands inside a piece."""
    module = build(spec)
    x = torch.randn(2, 17, DIM)
    doc = torch.tensor([[3] * 6 + [1] * 11, [2] * 9 + [-1] * 3 + [2] * 5])
    expected = module(x, context(17, doc))
    whole = document_positions(doc)
    state, outputs, last, start = module.init_state(2, 17, torch.float32, torch.device("cpu")), [], None, 0
    for size in (5, 1, 1, 6, 4):
        part = slice(start, start + size)
        outputs.append(module(x[:, part], Ctx(whole[:, part], doc[:, part], start, last_doc=last), state))
        last = torch.where(doc[:, start + size - 1] < 0, doc[:, 0] if last is None else last, doc[:, start + size - 1])
        start += size
    torch.testing.assert_close(torch.cat(outputs, dim=1), expected, atol=1e-4, rtol=1e-3)


def test_state_has_one_size(spec):
    """Whatever the text's length: the memory of a server does not grow."""
    module = build(spec)
    short, long = (module.init_state(2, n, torch.bfloat16, torch.device("cpu")) for n in (1, 100000))
    assert {n: t.shape for n, t in short.items()} == {n: t.shape for n, t in long.items()}
    before = {n: (t.shape, t.dtype) for n, t in short.items()}
    module(torch.randn(2, 30, DIM).bfloat16(), context(30), short)
    assert {n: (t.shape, t.dtype) for n, t in short.items()} == before
    assert short["memory"].dtype == torch.float32


def test_gradients_flow_through_a_carried_state(spec):
    module = build(spec)
    x = torch.randn(1, 12, DIM, requires_grad=True)
    state = module.init_state(1, 12, torch.float32, torch.device("cpu"))
    module(x[:, :8], context(8), state)
    y = module(x[:, 8:], Ctx(torch.arange(8, 12), start=8), state)
    (grad,) = torch.autograd.grad(y.sum(), x)
    assert (grad[:, :8].abs().sum(-1) > 0).all()


def test_negative_features_cannot_be_normalised():
    for feature in (Identity(), UnitLength()):
        with pytest.raises(ValueError, match="normalise=false"):
            FastWeights(4, feature=feature)
    with pytest.raises(ValueError, match="normalise=true"):
        FastWeights(4, feature=Favor(), normalise=False)


def test_widths_that_do_not_divide():
    with pytest.raises(ValueError, match="width per head"):
        FastWeights(5).build(DIM)
    assert FastWeights(5, 4, 4).sizes(DIM) == (4, 4)


def test_dpfp_needs_room():
    with pytest.raises(ValueError, match="smaller nu"):
        FastWeights(16, feature=DPFP(4)).build(DIM)


def test_fixed_decay_is_retnets():
    decay = FixedDecay().build(DIM, 4)
    factor = decay(torch.zeros(2, 3, DIM)).exp()
    assert factor.shape == (2, 4, 3)
    torch.testing.assert_close(factor[0, :, 0], 1 - torch.tensor([2.0**-5, 2.0**-6, 2.0**-7, 2.0**-8]))


def test_selective_decay_starts_slow():
    """Steps between 0.001 and 0.1, rates up to 16: factors between exp(-1.6) and 1."""
    decay = SelectiveDecay().build(DIM, 64)
    torch.nn.init.zeros_(decay.a_proj.weight)
    log = decay(torch.randn(1, 1, DIM))
    assert (log <= 0).all() and (log > -1.61).all()


def test_reach_bounds_beta():
    rule = Delta(2.0).build(DIM, 3)
    torch.nn.init.normal_(rule.b_proj.weight)
    beta = rule(torch.randn(4, 50, DIM))
    assert beta.shape == (4, 3, 50) and (beta > 0).all() and (beta < 2).all() and beta.max() > 1
    assert Sum().build(DIM, 3) is None


def test_random_features_are_saved_with_the_model():
    module = FastWeights(2, feature=Favor(seed=5)).build(DIM)
    name = "feature.directions"
    assert name in module.state_dict() and name not in dict(module.named_parameters())
    assert torch.equal(module.state_dict()[name], FastWeights(2, feature=Favor(seed=5)).build(DIM).state_dict()[name])


def test_delta_flops_count_one_more_read():
    sum_rule, delta = FastWeights(4, feature=UnitLength(), normalise=False), Delta()
    more = sum_rule.replace(rule=delta).flops(DIM, 100) - sum_rule.flops(DIM, 100)
    assert more == 2 * DIM * 4 + 2 * 4 * 8 * 8
    assert sum_rule.flops(DIM, 100) == sum_rule.flops(DIM, 100000)


def test_conv_knows_documents_and_padding():
    """Left padding, right padding, a border: each document is convolved as if alone, and the state keeps the newest inputs."""
    module = ShortConv(4, act=None).build(DIM)
    x = torch.randn(3, 8, DIM)
    doc = torch.tensor([[-1] * 3 + [0] * 5, [0] * 5 + [-1] * 3, [0] * 6 + [1] * 2])
    state = module.init_state(3, 8, torch.float32, torch.device("cpu"))
    y = module(x, context(8, doc), state)

    def alone(row, a, b):
        return module(x[row : row + 1, a:b], context(b - a))[0]

    torch.testing.assert_close(y[0, 3:], alone(0, 3, 8))
    torch.testing.assert_close(y[1, :5], alone(1, 0, 5))
    torch.testing.assert_close(y[2], torch.cat([alone(2, 0, 6), alone(2, 6, 8)]))
    torch.testing.assert_close(state["inputs"][0], x[0, 5:])
    torch.testing.assert_close(state["inputs"][1], x[1, 2:5])
    torch.testing.assert_close(state["inputs"][2], torch.cat([torch.zeros(1, DIM), x[2, 6:]]))
