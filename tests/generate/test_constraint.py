"""Constraints: at every step the tokens that can still lead to an allowed text, and no others."""

import gc
import json
import random
import re
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch

import genus
from genus.generate.constraint import Constraint, Guide
from genus.generate.sampling import Sampling
from genus.generate.sequence import Request, Sequence
from genus.generate.token_bytes import token_bytes
from genus.modalities.text import Tokenizer
from genus.prepare.tokenizer import bytes_tokenizer, words
from genus.run import Loaded

pytest.importorskip("llguidance")

OPTIONS = ("yes", "no", "yes no", "是", "不是", "no/yes\n", 'say "no"')
SCHEMA = {
    "type": "object",
    "properties": {"name": {"enum": ["Ann", "春"]}, "age": {"type": "integer", "minimum": 0, "maximum": 120}},
    "required": ["name", "age"],
    "additionalProperties": False,
}


def begin(tokenizer: Tokenizer, constraint: Constraint) -> Guide:
    return constraint.guide(tokenizer, frozenset([tokenizer.eos_id]))


def walk(tokenizer: Tokenizer, constraint: Constraint, seed: int, most: int = 200) -> Sequence:
    """A text of tokens drawn evenly from those that are allowed."""
    request = Request((tokenizer.bos_id, 0), constraint=constraint, max_tokens=most)
    row, dice = Sequence(request, tokenizer, frozenset([tokenizer.eos_id])), random.Random(seed)
    while row.finish is None:
        assert row.rules.guide is not None
        row.push(dice.choice(row.rules.guide.allowed().nonzero()[:, 0].tolist()))
    return row


def test_of_a_choice_exactly_the_tokens_that_lead_on(tokenizer: Tokenizer) -> None:
    """Step by step along every way that there is, against the prefixes of the options."""
    constraint, known = Constraint.choice(OPTIONS), token_bytes(tokenizer)
    options = [option.encode() for option in OPTIONS]
    ways: list[tuple[bytes, Guide]] = [(b"", begin(tokenizer, constraint))]
    seen = 0
    while ways:
        text, guide = ways.pop()
        table = known.later if text else known.first
        expected = {n for n, piece in enumerate(table) if piece and any(o.startswith(text + piece) for o in options)}
        whole = text in options
        assert guide.complete == whole and guide.over == (whole and not any(o != text and o.startswith(text) for o in options))
        assert guide.stuck == (not whole and not expected)
        allowed = set(guide.allowed().nonzero()[:, 0].tolist())
        assert allowed == expected | ({tokenizer.eos_id} if whole or not expected else set())
        seen += 1
        for n in expected:
            further = guide.copy()
            further.push(n)
            ways.append((text + table[n], further))
        if seen > 300:
            break
    assert seen > 3


@pytest.mark.parametrize("pattern", ["(yes|no)+", "[a-z]{1,9}( [0-9]+)?", r"[^x]{3}", r"a/b|[0-9]+\.", "(是|不)+.?"])
def test_a_text_matches_its_pattern(tokenizer: Tokenizer, pattern: str) -> None:
    try:
        texts = [walk(tokenizer, Constraint.regex(pattern), seed) for seed in range(15)]
    except ValueError as error:
        assert "no token that could begin" in str(error)
        return
    for row in texts:
        assert row.finish in ("end", "length")
        if row.finish == "end":
            assert re.fullmatch(pattern, row.text), row.text
    complete = tokenizer.kind in ("bytes", "chars", "bpe")
    assert not complete or all(row.finish == "end" for row in texts if len(row.new_ids) < 200)


def test_json_is_valid_under_its_schema(tokenizer: Tokenizer) -> None:
    complete, found = tokenizer.kind in ("bytes", "chars", "bpe"), set()
    if not complete and "{" not in tokenizer.core.get_vocab():
        with pytest.raises(ValueError, match="no token that could begin"):
            begin(tokenizer, Constraint.json(SCHEMA))
        return
    for seed in range(12):
        row = walk(tokenizer, Constraint.json(SCHEMA), seed)
        if row.finish == "length":
            assert not complete
            continue
        value = json.loads(row.text)
        assert list(value) == ["name", "age"] and value["name"] in ("Ann", "春") and 0 <= value["age"] <= 120
        found.add(row.text)
    assert not complete or len(found) > 5


def test_white_space_is_that_of_one_line() -> None:
    texts = [
        walk(bytes_tokenizer(), Constraint.json({"type": "array", "items": {"enum": [1]}}), seed, 40).text for seed in range(40)
    ]
    assert all(re.fullmatch(r"(\[(1(, ?1)*)?\]?|\[1(, ?1)*,? ?)", text) for text in texts), texts
    assert any(", " in text for text in texts) and any(",1" in text for text in texts)


def test_a_schema_may_be_text_or_anything() -> None:
    assert Constraint.json(json.dumps(SCHEMA)) == Constraint.json(SCHEMA)
    guide = begin(bytes_tokenizer(), Constraint.json(True))
    assert guide.allowed()[list(b'{["t-0')].all() and not guide.allowed()[ord("x")]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Constraint.json("{"), "the schema is not JSON: line 1"),
        (lambda: Constraint.json("[]"), "a JSON schema is an object"),
        (lambda: Constraint.json(False), "a JSON schema is an object"),
        (lambda: Constraint.regex(""), "empty"),
        (lambda: Constraint.choice([]), "at least one"),
        (lambda: Constraint.choice(["a", ""]), "empty"),
        (lambda: begin(bytes_tokenizer(), Constraint.regex("(a")), "regular expression: "),
        (lambda: begin(bytes_tokenizer(), Constraint.regex("(?=a)b")), "regular expression: "),
        (lambda: begin(bytes_tokenizer(), Constraint.json({"type": "nonsense"})), "JSON schema: "),
        (lambda: begin(bytes_tokenizer(), Constraint.json({"unevaluatedItems": False})), "JSON schema: "),
        (lambda: begin(words(["yes"]), Constraint.regex("[0-9]+")), "no token that could begin"),
    ],
)
def test_mistakes_are_explained(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        make()


def test_a_vocabulary_that_cannot_go_on_ends_the_text_as_cut() -> None:
    tokenizer = words(["yes", "please"])
    row = walk(tokenizer, Constraint.choice(["yes!"]), 0)
    assert (row.text, row.finish) == ("yes", "length")


def test_an_end_other_than_the_tokenizers_is_allowed_too() -> None:
    tokenizer = bytes_tokenizer()
    guide = Constraint.choice(["a", "ab"]).guide(tokenizer, frozenset([256, 7]))
    assert not guide.allowed()[[256, 7]].any()
    guide.push(ord("a"))
    assert guide.allowed().nonzero()[:, 0].tolist() == [7, ord("b"), 256]


def test_a_model_under_a_constraint(small: Callable[..., Loaded]) -> None:
    """Every row follows its own, and what is drawn is the model's choice among what is allowed."""
    loaded = small("llama")
    texts = genus.generate(loaded, ["Is it?", "x"], constraint=Constraint.choice(["yes", "no"]), number=6, temperature=1.5)
    assert {t.text for t in texts} == {"yes", "no"} and all(t.finish == "end" for t in texts)
    best = "yes" if _log_p(loaded, "Is it?", "y") > _log_p(loaded, "Is it?", "n") else "no"
    assert genus.generate(loaded, "Is it?", constraint=Constraint.choice(["yes", "no"]), temperature=0).text == best
    ages = genus.generate(loaded, "A record: ", constraint=Constraint.json(SCHEMA), number=3, seed=2)
    assert all(0 <= json.loads(t.text)["age"] <= 120 for t in ages)


def _log_p(loaded: Loaded, prompt: str, letter: str) -> float:
    with torch.no_grad():
        logits = loaded.model(torch.tensor([[256, *prompt.encode()]]))[0, -1]
    return float(logits[ord(letter)])


def test_sampling_rules_work_on_what_is_allowed(small: Callable[..., Loaded]) -> None:
    loaded = small("gpt2")
    found = genus.generate(
        loaded, "x", constraint=Constraint.regex("[ab]{8}"), temperature=1.0, top_k=1, frequency_penalty=100.0, logprobs=1
    )
    assert sorted(found.text) == list("aaaabbbb")  # each token is out until the other has come as often
    assert all(choice.log_p < 0 for choice in found.choices)


def test_a_tokenizer_that_goes_takes_its_grammars_along() -> None:
    tokenizer = words(["yes", "no"])
    begin(tokenizer, Constraint.choice(["yes"]))
    gone = weakref.ref(tokenizer)
    del tokenizer
    gc.collect()
    assert gone() is None


def test_without_the_library_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "llguidance", None)
    with pytest.raises(ModuleNotFoundError, match=r"genus\[grammar\]"):
        begin(words(["yes"]), Constraint.choice(["yes"]))


def test_sampling_is_not_slowed_for_others() -> None:
    """Rows without a constraint have no guide."""
    row = Sequence(Request((256,), sampling=Sampling()), bytes_tokenizer(), frozenset([256]))
    assert row.rules.guide is None and not row.rules.active
