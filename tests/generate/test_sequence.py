"""One row: whole characters, stop strings over token borders, the reasons to finish."""

import pytest

from genus.generate.sampling import Choice, Sampling
from genus.generate.sequence import Request, Sequence
from genus.prepare.tokenizer import bytes_tokenizer

END = 256


def sequence(prompt: bytes = b"p", **options: object) -> Sequence:
    return Sequence(Request((END, *prompt), **options), bytes_tokenizer(), frozenset([END]))


def test_a_chinese_character_comes_whole() -> None:
    row = sequence()
    pieces = [row.push(byte) for byte in "春眠".encode()]
    assert pieces == ["", "", "春", "", "", "眠"]


def test_an_unfinished_character_is_marked_at_the_end() -> None:
    row = sequence(max_tokens=2)
    assert [row.push(byte) for byte in "春".encode()[:2]] == ["", "\ufffd"]
    assert (row.text, row.finish) == ("\ufffd", "length")


def test_a_stop_string_over_token_borders_is_never_printed() -> None:
    row = sequence(stop=("眠不",))
    pieces = []
    for byte in "春眠不覺曉".encode():
        pieces.append(row.push(byte))
        if row.finish:
            break
    assert "".join(pieces) == row.text == "春"
    assert row.finish == "stop" and row.new_ids == [*"春眠不".encode()]


def test_text_held_back_for_a_stop_string_comes_out_at_the_end() -> None:
    for finish, tokens in (("end", [*b"one##", END]), ("length", [*b"one##"])):
        row = sequence(stop=("###",), max_tokens=len(tokens))
        assert "".join(row.push(t) for t in tokens) == row.text == "one##"
        assert row.finish == finish


def test_the_last_allowed_token_may_complete_a_stop_string() -> None:
    row = sequence(stop=("!",), max_tokens=2)
    assert row.push(ord("a")) + row.push(ord("!")) == "a"
    assert row.finish == "stop"


def test_the_prompt_does_not_count_for_stop_strings() -> None:
    row = sequence(b"Question\n", stop=("\n",))
    assert row.push(ord("A")) == "A"
    assert row.finish is None


def test_random_numbers_belong_to_the_row() -> None:
    a, b, again = sequence(seed=1), sequence(seed=2), sequence(seed=1)
    numbers = [a.uniform() for _ in range(3)]
    assert numbers != [b.uniform() for _ in range(3)]
    assert numbers == [again.uniform() for _ in range(3)]


def test_impossible_requests_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one token"):
        Request(())
    with pytest.raises(ValueError, match="max_tokens"):
        Request((1,), max_tokens=0, sampling=Sampling())


def test_choices_are_kept_as_they_came() -> None:
    row = sequence()
    row.push(Choice(ord("a"), -0.5, ((ord("a"), -0.5),)))
    row.push(ord("b"))
    assert row.choices == [Choice(ord("a"), -0.5, ((ord("a"), -0.5),)), Choice(ord("b"))] and row.new_ids == [97, 98]


def test_a_row_that_is_closed_gives_what_it_held_back() -> None:
    row = sequence(stop=("###",))
    assert [row.push(byte) for byte in b"one##"][-1] == ""
    assert row.close("cancelled") == "##"
    assert (row.text, row.finish) == ("one##", "cancelled")


def test_a_bias_names_tokens_that_are_there() -> None:
    with pytest.raises(ValueError, match="there is no token 257, the vocabulary has 257"):
        sequence(sampling=Sampling(logit_bias=((257, 1.0),)))
