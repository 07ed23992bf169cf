"""`genus tokenizer train|show|compare` as a user meets them."""

import json
from pathlib import Path

import pytest

from genus import cli
from genus.modalities.text import Tokenizer
from genus.prepare.tokenizer import furnish
from genus.prepare.tokenizer_show import cut, overview, tell, tell_cut

TEXT = "The cat sat on the mat, and the dog sat on the cat.\n床前明月光，疑是地上霜。\n"


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    folder = tmp_path / "texts"
    folder.mkdir()
    for i in range(30):
        (folder / f"{i}.txt").write_text(TEXT * 3 + f"number {i}", encoding="utf-8")
    return folder


def run(*words: object) -> int:
    return cli.main([str(word) for word in words])


@pytest.mark.parametrize("kind", ["bpe", "unigram", "bytes", "chars", "words"])
def test_train_every_kind(kind: str, texts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from transformers import AutoTokenizer

    more = ["--vocab", 300] if kind in ("bpe", "unigram") else []
    out = tmp_path / "tokenizer"
    more += ["--chat-template", "chatml", "--special", "<|x|>"]
    assert run("tokenizer", "train", texts, "-o", out, "--kind", kind, *more) == 0
    assert str(out) in capsys.readouterr().out
    tokenizer, peer = Tokenizer.load(out), AutoTokenizer.from_pretrained(out)
    assert tokenizer.kind == kind
    assert peer.encode(TEXT, add_special_tokens=False) == tokenizer.encode(TEXT)
    assert tokenizer.id("<|x|>") == peer.convert_tokens_to_ids("<|x|>") == tokenizer.encode("<|x|>", special=True)[0]
    talk = [{"role": "user", "content": "Hi"}]
    written = peer.apply_chat_template(talk, tokenize=False, add_generation_prompt=True)
    assert written == "<|endoftext|><|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    assert run("tokenizer", "train", texts, "-o", out) == 2
    assert "already holds a tokenizer" in capsys.readouterr().err


def test_a_template_of_ones_own(texts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine.jinja").write_text("{% for m in messages %}{{ m.content }}{% endfor %}")
    more = ["--kind", "bytes", "--chat-template", tmp_path / "mine.jinja"]
    assert run("tokenizer", "train", texts, "-o", tmp_path / "t", *more) == 0
    assert overview(tmp_path / "t")["conversation"] == "Who wrote this?You did."
    assert run("tokenizer", "train", texts, "-o", tmp_path / "u", "--chat-template", "chatlm") == 2
    assert "no chat template at chatlm" in capsys.readouterr().err


def test_a_trained_tokenizer_prepares_data(texts: Path, tmp_path: Path) -> None:
    from genus.prepare import prepare

    assert run("tokenizer", "train", texts, "-o", tmp_path / "t", "--kind", "unigram", "--vocab", 280, "--special", "mask") == 0
    data = prepare(texts, tmp_path / "DATA", tokenizer=tmp_path / "t", workers=1)
    assert data.tokenizer.kind == "unigram" and data.tokenizer.role("mask") == 280
    text = data.tokenizer.decode(data.split("train").document(0).tolist())
    assert text.startswith(TEXT)
    again = prepare(texts, tmp_path / "OTHER", tokenizer="unigram", vocab=280, workers=1)
    assert again.tokenizer.kind == "unigram" and "unigram" in again.manifest["tokenizer"]["description"]


def test_show(texts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run("tokenizer", "train", texts, "-o", tmp_path / "t", "--kind", "unigram", "--vocab", 280, "--chat-template", "chatml")
    capsys.readouterr()
    assert run("tokenizer", "show", tmp_path / "t") == 0
    shown = capsys.readouterr().out
    for part in ("unigram, 282 entries, lossless", "<|im_start|> 280", "<|endoftext|> (279)", "qwen2", "<|im_start|>user"):
        assert part in shown, part
    assert run("tokenizer", "show", tmp_path / "t", "The cat\x1b[31m 鑫") == 0
    shown = capsys.readouterr().out
    assert shown.startswith("The│ cat│") and "\\x1b" in shown and "\x1b" not in shown
    assert "鑫₁" in shown and "the same text" in shown
    assert run("tokenizer", "show", tmp_path / "t", "The cat", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["ids"] == Tokenizer.load(tmp_path / "t").encode("The cat") and told["pieces"] == ["The", " cat"]
    assert run("tokenizer", "show", tmp_path / "nowhere") == 2
    assert "no tokenizer at" in capsys.readouterr().err


def test_show_of_a_lossy_tokenizer(texts: Path, tmp_path: Path) -> None:
    run("tokenizer", "train", texts, "-o", tmp_path / "t", "--kind", "words")
    assert not overview(tmp_path / "t")["lossless"] and "not lossless" in tell(overview(tmp_path / "t"))
    assert "something is lost" in tell_cut(cut(tmp_path / "t", "unheard of"))
    assert tell_cut(cut(tmp_path / "t", "")).endswith("the same text")


def test_overview_of_a_peer(shared_data: Path) -> None:
    facts = overview(shared_data / "stories260K" / "hf")
    assert facts["kind"] == "imported" and facts["model"] == "BPE" and facts["entries"] == 512 and facts["bos"][0] == "<s>"
    assert sum(facts["kinds"].values()) == 512 and "imported (BPE)" in tell(facts)


def test_compare(texts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for kind in ("bpe", "chars"):
        more = ["--vocab", 300] if kind == "bpe" else []
        run("tokenizer", "train", texts, "-o", tmp_path / kind, "--kind", kind, *more)
    capsys.readouterr()
    assert run("tokenizer", "compare", tmp_path / "bpe", tmp_path / "chars", "--on", texts) == 0
    shown = capsys.readouterr().out
    assert "characters per token" in shown and "B  " in shown and "1.000" in shown
    assert run("tokenizer", "compare", tmp_path / "bpe", "--on", texts, "--json", "--megabytes", "0.001") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["rows"][0]["bytes"] <= 1000 and told["tokenizers"][0]["entries"] == 300
    assert run("tokenizer", "compare", "--on", texts) == 2
    assert "name tokenizers" in capsys.readouterr().err


def test_the_verb_alone_lists_its_forms(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("tokenizer") == 2
    assert "`genus tokenizer train`, `genus tokenizer show`, `genus tokenizer compare`" in capsys.readouterr().err


def test_furnish_keeps_the_ids(texts: Path, tmp_path: Path) -> None:
    run("tokenizer", "train", texts, "-o", tmp_path / "t", "--kind", "bpe", "--vocab", 300)
    plain = Tokenizer.load(tmp_path / "t")
    assert furnish(plain) is plain
    larger = furnish(plain, ["<|a|>"], "chatml")
    assert larger.extends(plain) and larger.vocab_size == plain.vocab_size + 3 and larger.chat_template
