"""Token vectors from bytes."""

import pytest
import torch
from torch.nn import functional as F

from genus import recipes
from genus.ops.dispatch import forced
from genus.parts.char_cnn import BEGIN, END, FIRST, PAD, SPECIAL, CharCNN, spelling
from genus.parts.embedding import Embedding
from genus.spec import from_json, to_json


def small() -> tuple[CharCNN, CharCNN.Module]:
    torch.manual_seed(0)
    spec = CharCNN((3, 4, 5), chars=6, highway=2, act="tanh", length=8)
    module = spec.Module(spec, 7, 20)
    for p in module.parameters():
        torch.nn.init.normal_(p, std=0.4)
    return spec, module


def test_spelling() -> None:
    table = spelling([b"ab", None, b"a long token"], 6).tolist()
    assert table[0] == [BEGIN, FIRST + 97, FIRST + 98, END, PAD, PAD]
    assert table[1] == [SPECIAL, FIRST + ord("1"), END, PAD, PAD, PAD]
    assert table[2] == [BEGIN, *(FIRST + b for b in b"a lo"), END]


def test_is_the_equations_of_the_paper() -> None:
    """Kim et al. 2016, equations 5 to 8, with torch's own convolution."""
    spec, module = small()
    ids = torch.tensor([[3, 1, 3], [19, 3, 0]])
    x = module.symbols(module.spelling[ids].long()).flatten(0, 1).transpose(1, 2)  # (N, C, L)
    found = []
    for width, layer in enumerate(module.convolutions, 1):
        kernel = layer.weight.view(-1, spec.chars, width)
        found.append(torch.tanh(F.conv1d(x, kernel, layer.bias)).amax(-1))
    y = torch.cat(found, dim=-1)
    for layer in module.highway:
        new, gate = (layer.weight @ y.T + layer.bias[:, None]).T.chunk(2, dim=-1)
        y = torch.sigmoid(gate) * torch.relu(new) + (1 - torch.sigmoid(gate)) * y
    expected = y @ module.projection.weight.T + module.projection.bias
    torch.testing.assert_close(module(ids), expected.view(2, 3, 7))


def test_once_for_each_token_is_for_every_place() -> None:
    _, module = small()
    ids = torch.randint(0, 20, (4, 9))
    found = []
    for path in ("once", "reference"):
        with forced(distinct=path):
            module.zero_grad()
            y = module(ids)
            y.square().sum().backward()
            found.append((y, [p.grad.clone() for p in module.parameters()]))
    torch.testing.assert_close(found[0], found[1])


def test_tokens_are_known_by_their_spelling() -> None:
    """Two ids that are spelled alike have one vector; `spell` changes it, and the weights remember it."""
    spec, module = small()
    module.spell([b"cat", b"dog", b"cat", None, None])
    x = module(torch.arange(6))
    assert torch.equal(x[0], x[2]) and not torch.allclose(x[0], x[1]) and not torch.allclose(x[3], x[4])
    other = spec.Module(spec, 7, 20)
    other.load_state_dict(module.state_dict())
    torch.testing.assert_close(other(torch.arange(6)), x)
    with pytest.raises(ValueError, match="21 tokens are spelled, and the model has 20"):
        module.spell([b"a"] * 21)


def test_counts() -> None:
    embed = Embedding(20, spelled=CharCNN((3, 4, 5), chars=6, length=8))
    assert embed.parameters(7) == sum(p.numel() for p in embed.build(7).parameters())
    assert from_json(to_json(embed)) == embed
    elmo = recipes.make("elmo", spelled=True).model
    # The released biLM: 93,600,864, with 2 symbols more of width 16, and without PyTorch's second bias of 4 layers x 4 x 4,096.
    assert elmo.embed.parameters(512) + 2 * elmo.stack.parameters(512) == 93_600_864 - 2 * 16 + 4 * 4 * 4096
