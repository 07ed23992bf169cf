"""What a token looks like to a reader."""

from tokenizers import Tokenizer as Core
from tokenizers.models import WordPiece
from tokenizers.pre_tokenizers import Whitespace

from genus.modalities.pieces import pieces
from genus.modalities.text import Tokenizer
from genus.prepare.tokenizer import build

TEXT = "Spring sleep 春眠 unaware"


def test_joined_pieces_are_the_text() -> None:
    tokenizer = build("bpe", ["the cat sat on the mat " * 20], 500)
    ids = tokenizer.encode("the cat sat")
    assert "".join(pieces(tokenizer, ids)) == "the cat sat"
    assert len(pieces(tokenizer, ids)) == len(ids)
    assert pieces(tokenizer, [tokenizer.bos_id, *ids])[0] == "<|endoftext|>"


def test_every_part_of_a_character_shows_it() -> None:
    tokenizer = build("bytes", [TEXT], len(TEXT))
    shown = pieces(tokenizer, tokenizer.encode("a春"))
    assert shown == ["a", "春₁", "春₂", "春₃"]
    cut = pieces(tokenizer, [*tokenizer.encode("春")[:2], tokenizer.eos_id, *tokenizer.encode("b")])
    assert cut == ["\ufffd", "\ufffd", "<|endoftext|>", "b"]


def test_pieces_of_words_keep_their_mark() -> None:
    core = Core(WordPiece({"[UNK]": 0, "play": 1, "##ing": 2, "[SEP]": 3}, unk_token="[UNK]"))
    core.pre_tokenizer = Whitespace()
    tokenizer = Tokenizer(core, {"eos_token": "[SEP]"})
    assert pieces(tokenizer, tokenizer.encode("playing")) == ["play", "##ing"]


def test_the_mark_of_a_space_is_a_space() -> None:
    core = Core(WordPiece({"<unk>": 0, "▁the": 1, "</s>": 2}, unk_token="<unk>"))
    assert pieces(Tokenizer(core, {"eos_token": "</s>"}), [1, 2]) == [" the", "</s>"]
