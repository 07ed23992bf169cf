"""`genus.generate(...)`: prompts in, texts out."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import genus
from genus.generate import texts
from genus.generate.texts import Generation, Generator, end_ids, prompt_ids, row_seed
from genus.prepare.tokenizer import bytes_tokenizer
from genus.run import Loaded


def test_the_package_is_the_verb(small: Callable[..., Loaded]) -> None:
    import genus.generate.engine

    text = genus.generate(small("lstm"), "Go", max_tokens=5, temperature=0)
    assert isinstance(text, Generation) and str(text) == "Go" + text.text and len(text.ids) == 5


def test_a_string_gives_one_and_a_list_gives_a_list(small: Callable[..., Loaded]) -> None:
    loaded = small("gpt2")
    one = genus.generate(loaded, "春", max_tokens=6)
    assert genus.generate(loaded, ["春"], max_tokens=6) == [one]
    three = genus.generate(loaded, "春", max_tokens=6, number=3)
    assert [t.sample for t in three] == [0, 1, 2] and three[0] == one
    assert len({t.ids for t in three}) == 3


def test_a_text_depends_on_seed_and_prompt_only(small: Callable[..., Loaded]) -> None:
    loaded = small("llama")
    prompts = ["one", "a much longer prompt", "two"]
    texts = genus.generate(loaded, prompts, max_tokens=8, seed=5)
    assert texts == [genus.generate(loaded, p, max_tokens=8, seed=5) for p in prompts]
    assert texts[::-1] == genus.generate(loaded, prompts[::-1], max_tokens=8, seed=5, batch=2)
    assert texts != genus.generate(loaded, prompts, max_tokens=8, seed=6)
    assert row_seed(0, "a", 0) != row_seed(0, "a", 1) != row_seed(0, "b", 1)


def test_pieces_join_to_the_text(small: Callable[..., Loaded]) -> None:
    generator = Generator(small("gru"), max_tokens=40, stop=["e", "\n"], seed=3)
    pieces: dict[int, str] = {}
    for place, piece, whole in generator.stream(["春眠不覺曉", "x"], number=2):
        pieces[place] = pieces.get(place, "") + piece
        if whole is not None:
            assert whole.text == pieces[place] and "e" not in whole.text
    assert len(pieces) == 4


def test_the_model_is_left_as_it_was(small: Callable[..., Loaded]) -> None:
    loaded = small("gpt2", dropout=0.5)
    loaded.model.train()
    before = {k: v.clone() for k, v in loaded.model.state_dict().items()}
    a = genus.generate(loaded, "x", max_tokens=4, temperature=0)
    assert a == genus.generate(loaded, "x", max_tokens=4, temperature=0)  # no dropout
    assert genus.generate(loaded, "x", max_tokens=4, dtype="bf16").ids
    assert loaded.model.training
    for name, value in loaded.model.state_dict().items():
        assert value.dtype == torch.float32 and torch.equal(value, before[name])


def test_bf16_gives_nearly_the_same_logits(small: Callable[..., Loaded]) -> None:
    """Greedy text agrees until two tokens come close; the first tokens of clear-cut weights agree."""
    loaded = small("llama")
    fine, coarse = (genus.generate(loaded, "Go", max_tokens=2, temperature=0, dtype=d) for d in ("fp32", "bf16"))
    assert fine.ids == coarse.ids


def test_models_that_cannot_continue_a_prompt_say_so(small: Callable[..., Loaded]) -> None:
    with pytest.raises(ValueError, match="both sides"):
        genus.generate(small("bert"), "x")
    loaded = small("gpt2")
    with pytest.raises(ValueError, match="no tokenizer"):
        genus.generate(Loaded(loaded.model, loaded.spec, None, loaded.path, {}), "x")


@pytest.mark.parametrize("name", ["t5", "transformer", "rnnsearch"])
def test_an_encoder_decoder_rewrites_a_source(small: Callable[..., Loaded], name: str) -> None:
    """Greedy text is the argmax of a full forward pass over source and text, whatever stands beside it in the batch."""
    loaded = small(name)
    texts = genus.generate(loaded, ["ein Hund", "zwei Männer auf einer Bank"], max_tokens=8, temperature=0)
    for text in texts:
        source = torch.tensor([[*text.prompt.encode(), 256]])
        ids = torch.tensor([[256, *text.ids]])
        with torch.no_grad():
            best = loaded.model(ids[:, :-1], source=source)[0, :, :257].argmax(-1)
        assert best.tolist() == list(text.ids)
        assert str(text) == text.text and text.rewritten
    sampled = [genus.generate(loaded, s, max_tokens=8, seed=3).ids for s in ("ein Hund", "zwei Katzen")]
    assert sampled == [g.ids for g in genus.generate(loaded, ["ein Hund", "zwei Katzen"], max_tokens=8, seed=3)]


def test_prompts_begin_a_document() -> None:
    assert prompt_ids(bytes_tokenizer(), "A") == (256, 65)
    assert prompt_ids(bytes_tokenizer(), "") == (256,)


@pytest.mark.parametrize(("declared", "wanted"), [(7, (7,)), ([7, 9], (7, 9)), (None, ())])
def test_end_tokens_travel_with_the_model(tmp_path: Path, declared: object, wanted: tuple[int, ...]) -> None:
    assert end_ids(tmp_path) == ()
    (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": declared}))
    assert end_ids(tmp_path) == wanted


def test_a_real_checkpoint_tells_the_expected_story(shared_data: Path) -> None:
    folder = shared_data / "stories260K" / "hf"
    expected = json.loads((folder / "expected.json").read_text())
    count = len(expected["greedy_ids"])
    text = genus.generate(folder, expected["prompt"], max_tokens=count, temperature=0)
    assert prompt_ids(genus.load(folder).tokenizer, expected["prompt"]) == tuple(expected["prompt_ids"])
    assert list(text.ids) == expected["greedy_ids"]
    assert str(text) == expected["text"]
    batch = genus.generate(folder, ["Lily", expected["prompt"], "The big dog ran"], max_tokens=count, temperature=0)
    assert batch[1] == text


def test_log_probabilities_come_with_the_text(small: Callable[..., Loaded]) -> None:
    """Against one forward pass over prompt and text."""
    loaded = small("llama")
    (text,) = genus.generate(loaded, ["Go"], max_tokens=6, temperature=0.7, top_k=5, logprobs=3)
    ids = torch.tensor([[256, *b"Go", *text.ids]])
    with torch.no_grad():
        own = loaded.model(ids[:, :-1])[0, 2:].log_softmax(-1)
    assert [c.id for c in text.choices] == list(text.ids)
    for place, choice in enumerate(text.choices):
        assert choice.log_p == pytest.approx(own[place, choice.id].item(), abs=1e-4)
        best = own[place].topk(3)
        assert [p for _, p in choice.top] == pytest.approx(best.values.tolist(), abs=1e-4)
    assert genus.generate(loaded, "Go", max_tokens=2).choices == ()


def test_one_engine_serves_all_calls_until_the_weights_change(small: Callable[..., Loaded]) -> None:
    loaded, other = small("llama"), small("gpt2")
    generator = Generator(loaded, max_tokens=8, weights="fp32", dtype="bf16", draft=other, draft_tokens=2)
    before = generator(["ab", "c"])
    with generator.engine() as engine:
        assert generator.prepared() is engine and generator.prepared([5]) is not engine
    first = generator.decoder()
    assert [t.ids for t in generator(["ab", "c"])] == [t.ids for t in before]
    second = generator.decoder()
    assert first is not second and first._draft is second._draft
    with torch.no_grad():
        for parameter in loaded.model.parameters():
            parameter.mul_(-1.5)
    after = generator(["ab", "c"])
    assert generator.prepared() is not engine
    fresh = Generator(loaded, max_tokens=8, weights="fp32", dtype="bf16", draft=other, draft_tokens=2)(["ab", "c"])
    assert [t.ids for t in after] == [t.ids for t in fresh] != [t.ids for t in before]


def test_what_is_loaded_here_goes_to_the_device_and_a_loaded_model_stays(
    small: Callable[..., Loaded], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(texts, "default_device", lambda: torch.device("meta"))
    monkeypatch.setattr(texts, "load", lambda path: small(str(path)))

    def device(loaded: Loaded) -> str:
        return next(loaded.model.parameters()).device.type

    assert device(Generator("llama").loaded) == "meta"
    generator = Generator(small("llama"), draft="gpt2")
    assert device(generator.loaded) == "cpu" and generator._draft is not None and device(generator._draft) == "cpu"
    assert device(Generator("llama", draft="gpt2")._draft) == "meta"


def test_the_best_of_several(small: Callable[..., Loaded]) -> None:
    loaded = small("gpt2")
    every = genus.generate(loaded, ["a", "bc"], max_tokens=5, number=6, logprobs=0, seed=4)
    best = genus.generate(loaded, ["a", "bc"], max_tokens=5, number=2, best_of=6, seed=4)
    assert len(best) == 4 and [b.sample for b in best] == [0, 1, 0, 1]
    for prompt, found in (("a", best[:2]), ("bc", best[2:])):
        means = {e.ids: sum(c.log_p for c in e.choices) / len(e.choices) for e in every if e.prompt == prompt}
        ranked = sorted(means, key=lambda ids: -means[ids])
        assert [f.ids for f in found] == ranked[:2]
        assert [f.score for f in found] == pytest.approx([means[ids] for ids in ranked[:2]], abs=1e-5)
        assert all(f.choices == () for f in found)
    with pytest.raises(ValueError, match="cannot be chosen"):
        genus.generate(loaded, "a", number=3, best_of=2)
    with pytest.raises(ValueError, match="not both"):
        genus.generate(loaded, "a", best_of=2, beam=2)


def test_penalties_keep_a_text_from_repeating_itself(small: Callable[..., Loaded]) -> None:
    loaded = small("lstm")
    free = genus.generate(loaded, "x", max_tokens=40, temperature=0)
    varied = genus.generate(loaded, "x", max_tokens=40, temperature=0, presence_penalty=50.0)
    assert len(set(free.ids)) < len(set(varied.ids)) == len(varied.ids)
    never = genus.generate(loaded, "x", max_tokens=40, temperature=0, logit_bias={free.ids[0]: -100.0})
    assert free.ids[0] not in never.ids
    assert set(genus.generate(loaded, "x", max_tokens=5, logit_bias={65: 100.0}).ids) == {65}
