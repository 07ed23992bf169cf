"""The n-gram model: what every language model here must satisfy, on a model with real counts."""

from __future__ import annotations

import copy
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from genus.parts.ngram import FEW_ROWS, NGram
from genus.parts.ngram_files import load_ngram, save_ngram
from genus.spec import from_json, to_json
from genus.train.kneser_ney import estimate

VOCAB, EOS = 40, 3


class Documents:
    def __init__(self, bos: int) -> None:
        rng = np.random.default_rng(7)
        words = np.array([w for w in range(VOCAB) if w not in (bos, EOS)])
        phrases = [rng.choice(words, 6) for _ in range(25)]
        self.documents = [
            np.append(np.concatenate([phrases[i] for i in rng.integers(0, 25, rng.integers(1, 8))]), EOS) for _ in range(80)
        ]
        self.stream = np.concatenate(self.documents).astype(np.uint32)
        self.ends = np.cumsum([len(d) for d in self.documents])
        self.tokens = len(self.stream)

    def read(self, start: int, stop: int) -> np.ndarray:
        return self.stream[start:stop]


@pytest.fixture(scope="module", params=[(1, EOS), (2, EOS), (4, 0), (5, EOS), (8, EOS)], ids=lambda p: f"order{p[0]}-bos{p[1]}")
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> NGram.Module:
    order, bos = request.param
    return estimate(Documents(bos), order, VOCAB, bos, EOS, tmp_path_factory.mktemp("ngram") / "model")


def rows(model: NGram.Module, count: int = 4, length: int = 20) -> tuple[torch.Tensor, torch.Tensor]:
    """(inputs, targets) as they come from the loader: BOS, then the document."""
    documents = [d for d in Documents(model.spec.bos).documents if len(d) >= length][:count]
    targets = torch.tensor(np.stack([d[:length] for d in documents]))
    return torch.cat([torch.full((count, 1), model.spec.bos), targets[:, :-1]], 1), targets


def test_probabilities_sum_to_one_after_known_and_unknown_contexts(model: NGram.Module) -> None:
    inputs, _ = rows(model)
    strange = torch.randint(0, VOCAB, (4, 20), generator=torch.Generator().manual_seed(0))
    for ids in (inputs, strange):
        total = model(ids).double().exp().sum(-1)
        assert total.shape == (4, 20)
        torch.testing.assert_close(total, torch.ones_like(total), atol=2e-6, rtol=0)


def test_score_is_the_forward_pass_at_the_target(model: NGram.Module) -> None:
    inputs, targets = rows(model)
    strange = torch.randint(0, VOCAB, targets.shape, generator=torch.Generator().manual_seed(1))
    mixed = torch.where(torch.arange(20) % 3 == 0, strange, targets)  # some targets are not the next input
    mixed[1, 4] = -100
    expected = model(inputs).gather(-1, mixed.clamp(min=0)[..., None])[..., 0] * (mixed != -100)
    torch.testing.assert_close(model.score(inputs, mixed), expected)
    assert model.score(inputs, mixed)[1, 4] == 0
    torch.testing.assert_close(model.log_prob(targets), model.score(inputs, targets))


def test_causal(model: NGram.Module) -> None:
    inputs, _ = rows(model)
    changed = inputs.clone()
    changed[:, 10:] = (changed[:, 10:] + 5) % VOCAB
    torch.testing.assert_close(model(changed)[:, :10], model(inputs)[:, :10], atol=0, rtol=0)


def test_only_the_last_tokens_count(model: NGram.Module) -> None:
    inputs, _ = rows(model)
    reach = model.spec.order - 1
    changed = inputs.clone()
    changed[:, : 19 - reach + 1] = 7
    torch.testing.assert_close(model(changed)[:, 19], model(inputs)[:, 19], atol=0, rtol=0)
    if reach:
        changed[:, 19] = 8
        assert not torch.equal(model(changed)[:, 19], model(inputs)[:, 19])


@pytest.mark.parametrize("with_bos", [True, False])
def test_packed_is_separate(model: NGram.Module, with_bos: bool) -> None:
    inputs, targets = rows(model)
    if not with_bos:  # a document may also be cut in two: its second half begins with any token
        inputs, targets = inputs[:, 1:], targets[:, 1:]
    doc = torch.arange(4)[:, None].expand_as(inputs)
    torch.testing.assert_close(model(inputs.reshape(1, -1), doc.reshape(1, -1))[0], model(inputs).flatten(0, 1), atol=0, rtol=0)
    packed = model.score(inputs.reshape(1, -1), targets.reshape(1, -1), doc.reshape(1, -1))
    torch.testing.assert_close(packed[0], model.score(inputs, targets).flatten(), atol=0, rtol=0)


def test_bos_alone_separates_documents(model: NGram.Module) -> None:
    inputs, targets = rows(model)
    torch.testing.assert_close(
        model.score(inputs.reshape(1, -1), targets.reshape(1, -1))[0], model.score(inputs, targets).flatten(), atol=0, rtol=0
    )


@pytest.mark.parametrize("side", ["left", "right", "inside"])
def test_padded_is_alone(model: NGram.Module, side: str) -> None:
    inputs, targets = rows(model)
    pad = torch.zeros((4, 5), dtype=torch.long)
    cut = {"left": 0, "inside": 9, "right": 20}[side]
    ids = torch.cat([inputs[:, :cut], pad, inputs[:, cut:]], 1)
    wanted = torch.cat([targets[:, :cut], pad - 100, targets[:, cut:]], 1)
    doc = torch.cat([pad.new_zeros(4, cut), pad - 1, pad.new_zeros(4, 20 - cut)], 1)
    torch.testing.assert_close(model(ids, doc)[doc == 0].view(4, 20, -1), model(inputs), atol=0, rtol=0)
    torch.testing.assert_close(model.score(ids, wanted, doc)[doc == 0].view(4, 20), model.score(inputs, targets), atol=0, rtol=0)


@pytest.mark.parametrize("prefill", [1, 7])
def test_prefill_and_steps_equal_one_forward(model: NGram.Module, prefill: int) -> None:
    inputs, _ = rows(model)
    state = model.init_state(4, 20)
    parts = [model(inputs[:, :prefill], state=state)]
    parts += [model(inputs[:, t : t + 1], state=state) for t in range(prefill, 20)]
    assert state["start"] == 20
    torch.testing.assert_close(torch.cat(parts, 1), model(inputs), atol=0, rtol=0)


def test_a_few_rows_are_read_as_many_are(model: NGram.Module) -> None:
    """Also where a document begins anew in the middle of a row, and where a state was made by more rows."""
    inputs, _ = rows(model, 20)
    inputs[::3, 8] = model.spec.bos
    assert len(inputs) > FEW_ROWS
    many, few = model.init_state(20, 20), [model.init_state(4, 20) for _ in range(5)]
    for t in range(20):
        step = inputs[:, t : t + 1]
        expected = model(step, state=many)
        assert torch.equal(torch.cat([model(part, state=own) for part, own in zip(step.split(4), few)]), expected)
    for name, kept in many["layers"][0].items():
        assert torch.equal(torch.cat([own["layers"][0][name] for own in few]), kept)


def test_padding_does_not_touch_the_state(model: NGram.Module) -> None:
    inputs, _ = rows(model)
    lengths = torch.tensor([3, 9, 1, 6])
    doc = torch.where(torch.arange(9) < lengths[:, None], 0, -1)
    state = model.init_state(4, 20)
    model(inputs[:, :9] * (doc == 0), doc, state)
    following = torch.stack([inputs[row, n : n + 2] for row, n in enumerate(lengths)])
    if model.spec.order > 1:
        assert not state["last_doc"].any()
    got = model(following, state=state)
    for row, n in enumerate(lengths):
        torch.testing.assert_close(got[row], model(inputs[row : row + 1])[0, n : n + 2], atol=0, rtol=0)


def test_state_is_data(model: NGram.Module) -> None:
    inputs, _ = rows(model)
    state = model.init_state(4, 20)
    model(inputs[:, :5], state=state)
    saved = copy.deepcopy(state)
    first = model(inputs[:, 5:7], state=state)
    torch.testing.assert_close(model(inputs[:, 5:7], state=saved), first, atol=0, rtol=0)


def test_saved_and_loaded_is_the_same(model: NGram.Module, tmp_path: Path) -> None:
    inputs, targets = rows(model)
    save_ngram(tmp_path / "copy", model)
    again = load_ngram(tmp_path / "copy")
    assert again.spec == model.spec == from_json(to_json(model.spec))
    assert torch.equal(again.score(inputs, targets), model.score(inputs, targets))
    numbers = sum(t.numel() for n, t in again.named_buffers() if n.startswith(("log_probs", "backoffs")))
    assert again.spec.parameters() == numbers
    save_ngram(tmp_path / "copy", model)  # over itself, while it is mapped
    assert torch.equal(again.score(inputs, targets), model.score(inputs, targets))


def test_a_damaged_folder_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    estimate(Documents(EOS), 3, VOCAB, EOS, EOS, folder)
    table = folder / "log_probs_3.npy"
    whole = table.read_bytes()
    for content in (whole[:-4], whole[:20], b""):
        table.write_bytes(content)
        with pytest.raises(ValueError, match=r"log_probs_3.npy is missing or cut short"):
            load_ngram(folder)
    np.save(table, np.zeros(3, np.float32))
    with pytest.raises(ValueError, match=r"config.json says"):
        load_ngram(folder)
    table.unlink()
    with pytest.raises(ValueError, match=r"log_probs_3.npy is missing"):
        load_ngram(folder)
    (folder / "config.json").write_text('{"model_type": "gpt2"}')
    with pytest.raises(ValueError, match="'gpt2'"):
        load_ngram(folder)
    with pytest.raises(FileNotFoundError, match=r"config.json"):
        load_ngram(tmp_path)


def test_a_model_that_saw_nothing_is_uniform() -> None:
    model = NGram(4, 10, 0, 0).build()
    torch.testing.assert_close(model(torch.tensor([[0, 5, 6]])), torch.full((1, 3, 10), -math.log(10)))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"order": 0}, "1 to 8"),
        ({"order": 9}, "1 to 8"),
        ({"bos": 256}, "below vocab"),
        ({"prune": (1,)}, "start with 0"),
        ({"prune": (0, 2, 1)}, "never decrease"),
    ],
)
def test_impossible_specs_are_refused(fields: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        NGram(**fields)


def test_a_token_outside_the_vocabulary_is_named(model: NGram.Module) -> None:
    with pytest.raises(ValueError, match="token id 40 is not in"):
        model(torch.tensor([[1, 40]]))
    with pytest.raises(ValueError, match="token id 77 is not in"):
        model.score(torch.tensor([[1]]), torch.tensor([[77]]))


def test_a_gram_is_found_whatever_is_looked_up_beside_it(model: NGram.Module) -> None:
    """Ranges of very different length are searched together, the last of the table among them."""
    draw = torch.Generator().manual_seed(3)
    for order in range(2, model.spec.order + 1):
        words, children = model.table("words", order).tolist(), model.table("children", order - 1).tolist()
        known = {(p, words[at]): at for p in range(len(children) - 1) for at in range(children[p], children[p + 1])}
        last = max(p for p, _ in known)
        for size in [3, 5, 8, 21] * 10:
            parent = torch.randint(0, len(children) - 1, (size,), generator=draw)
            parent[0] = last
            word = torch.randint(0, VOCAB, (size,), generator=draw)
            word[0] = VOCAB - 1  # beyond every word of the last range, more often than not
            wanted = [known.get(pair, -1) for pair in zip(parent.tolist(), word.tolist())]
            assert model._find(order, parent, word).tolist() == wanted
