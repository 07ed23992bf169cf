"""The outputs of all layers, two directions, and a head that reads a mixture."""

import pytest
import torch

from genus import recipes
from genus.parts.ctx import PADDING
from genus.parts.mix import ScalarMix
from genus.parts.model import Model
from genus.parts.task_head import TaskHead


def build(name: str, **changes: object) -> tuple[Model, Model.Module]:
    torch.manual_seed(0)
    spec = recipes.make(name, dim=32, depth=2, heads=2, vocab=50, context=32).model.replace(**changes)
    return spec, spec.build().eval()


def ids(rows: int = 2, time: int = 9) -> torch.Tensor:
    return torch.randint(1, 50, (rows, time), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", ["gpt2", "bert", "transformer-residual", "lstm", "gemma2", "albert"])
def test_layers_end_with_what_the_head_reads(name: str) -> None:
    spec, model = build(name)
    layers = model.layers(ids())
    assert len(layers) == spec.stack.depth + 1
    assert torch.equal(layers[-1], model.hidden(ids()))
    assert torch.equal(layers[0], model.embed(ids(), torch.arange(9), None, torch.float32))
    assert not torch.equal(layers[1], layers[0]) and not torch.equal(layers[1], layers[2])


def test_the_stream_of_residual_is_the_one_sublayers_read() -> None:
    """Post-norm: of mean 0 and variance 1, whatever stands in the other stream."""
    layer = build("transformer-residual")[1].layers(ids())[1]
    assert torch.allclose(layer.std(-1, unbiased=False), torch.ones(2, 9), atol=1e-3)


def test_an_encoder_decoder_reads_with_its_encoder() -> None:
    _, model = build("t5")
    assert torch.equal(model.layers(ids())[-1], model.encode(ids()))
    decoder = model.layers(ids(), source=ids(2, 5))
    assert torch.equal(decoder[-1], model.hidden(ids(), source=ids(2, 5)))


def test_directions() -> None:
    """Forward knows what came before, backward what comes after; both know the token; documents and padding separate."""
    _, model = build("elmo")
    changed = ids()
    changed[:, 4] = ids()[:, 4] % 40 + 2
    moved = torch.cat([a - b for a, b in zip(model.layers(changed), model.layers(ids()), strict=True)][1:]).abs()
    ahead, back = moved[..., :32].amax((0, 2)), moved[..., 32:].amax((0, 2))
    assert (ahead[:4] == 0).all() and (ahead[4:] > 0).all()
    assert (back[5:] == 0).all() and (back[:5] > 0).all()
    text, doc = ids(1, 12), torch.tensor([[PADDING, 0, 0, 0, 0, 5, 5, 5, 3, 3, PADDING, PADDING]])
    together = model.layers(text, doc)
    for a, b in ((1, 5), (5, 8), (8, 10)):
        for packed, alone in zip(together, model.layers(text[:, a:b]), strict=True):
            torch.testing.assert_close(packed[:, a:b], alone)


def test_scalar_mix_is_the_equation() -> None:
    mix = ScalarMix(3).build(4)
    layers = [torch.randn(2, 5, 4) for _ in range(3)]
    torch.testing.assert_close(mix(layers), sum(layers) / 3)
    with torch.no_grad():
        mix.weights.copy_(torch.tensor([0.0, 1.0, 2.0]))
        mix.gamma.fill_(3.0)
    shares = torch.tensor([0.0, 1.0, 2.0]).softmax(0)
    torch.testing.assert_close(mix(layers), 3 * sum(s * h for s, h in zip(shares, layers, strict=True)))
    assert sum(p.numel() for p in mix.parameters()) == ScalarMix(3).parameters(4)


@pytest.mark.parametrize(("name", "width"), [("elmo", 64), ("gpt2", 32)])
def test_a_task_reads_a_mixture(name: str, width: int) -> None:
    spec, model = build(name, head=TaskHead(3, mix=ScalarMix(3)))
    assert spec.parameters() == sum(p.numel() for p in model.parameters())
    assert model.head.proj.weight.shape == (3, width) and model(ids()).shape == (2, 3)
    assert torch.equal(model.hidden(ids()), model.head.mix(model.layers(ids())))
    model(ids()).sum().backward()
    assert all(p.grad is not None for p in model.parameters()), "the task moves every layer of both directions"
    with pytest.raises(ValueError, match="needs the whole text in one call"):
        model(ids(), state=model.init_state(2, 9))


def test_a_mixture_of_another_number_of_layers() -> None:
    with pytest.raises(ValueError, match=r"mixes 4 layers .* has 3, .* set model.head.mix.layers=3"):
        build("gpt2", head=TaskHead(3, mix=ScalarMix(4)))
