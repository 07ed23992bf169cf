"""ARPA files: kenlm reads ours and agrees, ours come back unchanged, and other tools' files load."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from genus.export.arpa import escape, token_names, write_arpa
from genus.export.arpa_reader import read_arpa
from genus.parts.ngram import NGram
from genus.train.kneser_ney import estimate

LN10 = math.log(10)

# A bigram model by hand, in the style of other tools: blanks between columns, blank lines, <s> with -99, "a b c" without "b c".
FOREIGN = """
written by hand

\\data\\
ngram 1=6
ngram 2=4
ngram 3=2

\\1-grams:
-1.0 <unk>
-99 <s> -0.30103
-0.7\t</s>
-0.5\ta\t-0.2
-0.6\tb\t-0.4
-0.9\tc

\\2-grams:
-0.25\t<s> a\t-0.1
-0.4\ta b\t-0.15
-0.35\tb </s>
-0.45\ta a

\\3-grams:
-0.05\ta b c
-0.02\tb c </s>

\\end\\
"""


class Words:
    """The part of a tokenizer that names tokens; awkward ones on purpose."""

    tokens = (None, " ", "\n", "\\", "a b", "", "<s>", "</s>", "\u3000", "中", "\xa0", "\\x20;", "e", "\\e", "<UNK>", "#", "\x1c")
    vocab_size = len(tokens)
    bos_id = eos_id = 0

    def token(self, number: int) -> str | None:
        return self.tokens[number]


class Documents:
    def __init__(self, documents: list[np.ndarray]) -> None:
        self.stream, self.ends = np.concatenate(documents).astype(np.uint16), np.cumsum([len(d) for d in documents])
        self.tokens = len(self.stream)

    def read(self, start: int, stop: int) -> np.ndarray:
        return self.stream[start:stop]


def random_documents(vocab: int, eos: int, bos: int, count: int = 60) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    words = np.array([w for w in range(vocab) if w not in (bos, eos)])
    return [np.append(rng.choice(words, rng.integers(0, 25), p=rng.dirichlet(np.ones(len(words)))), eos) for _ in range(count)]


@pytest.mark.parametrize("bos", [0, 5])
@pytest.mark.parametrize("order", [2, 4, 6])
def test_kenlm_agrees_on_every_sentence(order: int, bos: int, tmp_path: Path) -> None:
    kenlm = pytest.importorskip("kenlm", reason="kenlm is the peer of this test")
    tokenizer = Words()
    tokenizer.bos_id = bos
    documents = random_documents(tokenizer.vocab_size, 0, bos)
    model = estimate(Documents(documents[:40]), order, tokenizer.vocab_size, bos, 0, tmp_path / "model", prune=(0, 0, 1))
    names = token_names(tokenizer)
    write_arpa(tmp_path / "model.arpa", model, names)
    peer = kenlm.Model(str(tmp_path / "model.arpa"))
    assert peer.order == order
    for document in documents:
        sentence = " ".join(names[t] for t in document[:-1])
        ours = model.log_prob(torch.from_numpy(document)[None]).sum().item() / LN10
        assert peer.score(sentence) == pytest.approx(ours, abs=1e-4)
        assert len(list(peer.full_scores(sentence))) == len(document)


@pytest.mark.parametrize("bos", [0, 5])
@pytest.mark.parametrize("order", [1, 3, 8])
def test_written_and_read_back_is_the_same_model(order: int, bos: int, tmp_path: Path) -> None:
    tokenizer = Words()
    tokenizer.bos_id = bos
    documents = random_documents(tokenizer.vocab_size, 0, bos)
    model = estimate(Documents(documents), order, tokenizer.vocab_size, bos, 0, tmp_path / "model")
    write_arpa(tmp_path / "model.arpa", model, token_names(tokenizer))
    again, _ = read_arpa(tmp_path / "model.arpa", token_names(tokenizer), bos, 0)
    assert again.spec == model.spec
    for name in model.spec.shapes():
        assert torch.equal(getattr(again, name), getattr(model, name)), name
    ids = torch.from_numpy(documents[3])[None]
    assert torch.equal(again.log_prob(ids), model.log_prob(ids))
    # without a vocabulary, ids are renumbered but documents weigh the same
    other, words = read_arpa(tmp_path / "model.arpa")
    renumbered = torch.tensor([[words.index(token_names(tokenizer)[t]) for t in documents[3]]])
    torch.testing.assert_close(other.log_prob(renumbered), model.log_prob(ids))


def test_a_file_from_another_tool(tmp_path: Path) -> None:
    path = tmp_path / "hand.arpa"
    path.write_text(FOREIGN, encoding="utf-8")
    model, names = read_arpa(path)
    ids = {name: i for i, name in enumerate(names)}

    def log10(text: str) -> list[float]:
        return (model.log_prob(torch.tensor([[ids[w] for w in text.split()]]))[0] / LN10).tolist()

    assert log10("a b c </s>") == pytest.approx([-0.25, -0.1 - 0.4, -0.05, -0.02], abs=1e-5)
    # "a b" never follows: its weight, then "b </s>"; "c </s>" through <unk>-free back-off of "b c", which has no line
    assert log10("a b </s>") == pytest.approx([-0.25, -0.1 - 0.4, -0.15 - 0.35], abs=1e-5)
    assert log10("b c c") == pytest.approx([-0.30103 - 0.6, -0.4 - 0.9, -0.9], abs=1e-5)
    kenlm = pytest.importorskip("kenlm", reason="kenlm is the peer of this test")
    plain = tmp_path / "plain.arpa"
    tabbed = re.sub(r" (-\S+)$", r"\t\1", re.sub(r"^(-\S+)[ \t]", r"\1\t", FOREIGN, flags=re.M), flags=re.M)
    # and its table for so few grams has no room for the entry "b c" that is missing: write what backing off gives
    tabbed = tabbed.replace("ngram 2=4", "ngram 2=5").replace("-0.45\ta a", "-1.3\tb c\n-0.45\ta a")
    plain.write_text(tabbed[tabbed.index("\\data\\") :], encoding="utf-8")  # kenlm takes no preamble, and tabs only
    peer = kenlm.Model(str(plain))
    for sentence in ("a b c", "a b", "b c c", "c", "", "a a a b c b"):
        assert peer.score(sentence) == pytest.approx(sum(log10(f"{sentence} </s>")), abs=1e-4)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda t: t.replace("\\data\\", "data"), "no .data. line"),
        (lambda t: t[: t.index("a b c")], "ends within order 3|expected a probability"),
        (lambda t: t.replace("ngram 2=4", "ngram 2=5"), "line 23: 4 grams of order 2, but the header says 5"),
        (lambda t: t.replace("a b c", "a b d"), "no word 'd'"),
        (lambda t: t.replace("<s>", "<begin>"), "<s> and </s>"),
        (lambda t: t.replace("a a", "a b"), "order 2 is there twice"),
    ],
)
def test_damaged_files_are_refused(damage, message: str, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "hand.arpa"
    path.write_text(damage(FOREIGN), encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        read_arpa(path)


def test_names_have_no_blanks_and_stay_different() -> None:
    names = token_names(Words())
    assert len({*names}) == len(names)
    assert all(len(name.encode().split()) == 1 and name.isprintable() for name in names)
    assert names[0] == "</s>" and escape(" a") == "\\x20;a" and escape("<s>") == "\\<s>"


def test_a_model_that_saw_nothing_can_be_written(tmp_path: Path) -> None:
    write_arpa(tmp_path / "empty.arpa", NGram(3, 4, 0, 0).build())
    again, names = read_arpa(tmp_path / "empty.arpa")
    assert names == ["</s>", "1", "2", "3", "<s>", "<unk>"]
    assert again.log_prob(torch.tensor([[1, 2, 0]])).exp().tolist()[0] == pytest.approx([0.25] * 3)
