"""What tokens write, against the tokenizer's own decoding of random sequences."""

import random

import pytest
from tokenizers import Tokenizer as Core
from tokenizers import decoders, models

from genus.generate.token_bytes import token_bytes
from genus.modalities.text import Tokenizer
from genus.prepare.tokenizer import bytes_tokenizer


def test_tokens_joined_are_the_decoded_text(tokenizer: Tokenizer) -> None:
    known = token_bytes(tokenizer)
    assert len(known.first) == len(known.later) == tokenizer.vocab_size
    written = [n for n in range(tokenizer.vocab_size) if known.later[n]]
    assert len(written) >= tokenizer.vocab_size - 5
    dice = random.Random(1)
    for _ in range(200):
        ids = dice.choices(written, k=dice.randint(1, 12))
        try:
            text = known.text(ids).decode()
        except UnicodeDecodeError:
            continue  # decoders differ in how many marks they set for broken characters
        assert text == tokenizer.decode(ids)


def test_a_text_is_the_bytes_of_its_tokens(tokenizer: Tokenizer) -> None:
    for text in ("yes no", "春眠 yes 1.", 'yes "a"'):
        ids = tokenizer.encode(text)
        assert token_bytes(tokenizer).text(ids).decode() == tokenizer.decode(ids)


def test_special_tokens_write_nothing(tokenizer: Tokenizer) -> None:
    assert token_bytes(tokenizer).first[tokenizer.eos_id] == token_bytes(tokenizer).later[tokenizer.eos_id] == b""


def test_they_are_found_once() -> None:
    tokenizer = bytes_tokenizer()
    assert token_bytes(tokenizer) is token_bytes(tokenizer)
    assert token_bytes(tokenizer).later[200] == bytes([200])


def test_a_tokenizer_whose_tokens_have_no_text_of_their_own_is_refused() -> None:
    """GPT-1's: the space after a word goes when the text ends there."""
    core = Core(
        models.BPE(
            vocab={"yes</w>": 0, "no</w>": 1, "y": 2, "es</w>": 3, "n": 4, "o</w>": 5}, merges=[], end_of_word_suffix="</w>"
        )
    )
    core.decoder = decoders.BPEDecoder("</w>")
    core.add_special_tokens(["</s>"])
    with pytest.raises(ValueError, match="depends on its neighbours"):
        token_bytes(Tokenizer(core, {"eos_token": "</s>"}))
