"""Loss, BLEU and chrF of encoder-decoders on prepared pairs."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
import torch

import genus
from genus import cli
from genus.evaluate import translation
from genus.evaluate.translation import evaluate_pairs
from genus.export import huggingface
from genus.objectives.seq2seq import PairRows, Seq2Seq
from genus.prepare import prepare
from genus.prepare.dataset import Dataset
from genus.run import Loaded

WORDS = ("ein", "zwei", "Hund", "Katze", "läuft", "springt", "über", "unter", "Wiese", "Ball", "blau", "rot")


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder = tmp_path_factory.mktemp("pairs")
    dice = random.Random(2)
    lines = [" ".join(dice.choices(WORDS, k=dice.randint(2, 14))) for _ in range(120)]
    (folder / "a.tsv").write_text("".join(f"{s}\t{s.upper()}\n" for s in lines), encoding="utf-8")
    return prepare(folder / "a.tsv", folder / "data", pairs=True, tokenizer="bytes", validation=0.2, test=0, workers=1)


@pytest.fixture
def loaded(pairs: Dataset) -> Loaded:
    torch.manual_seed(0)
    spec = genus.recipe("encoder-decoder-pre-norm", dim=32, depth=1, heads=2, vocab=257).model
    return Loaded(spec.build().eval(), spec, pairs.tokenizer, Path("nowhere"), {})


def test_loss_is_that_of_every_pair(loaded: Loaded, pairs: Dataset) -> None:
    found = evaluate_pairs(loaded, pairs)
    part, objective = pairs.split("validation"), Seq2Seq()
    assert part.source is not None
    nats = 0.0
    for i in range(part.documents):
        rows = PairRows([part.source.document(i)], [part.document(i)], 256)
        nats += float(objective.loss(loaded.model, objective.batch(rows))[0].detach())
    assert found.loss * found.tokens == pytest.approx(nats, rel=1e-5)
    assert (found.tokens, found.pairs, found.scores) == (part.tokens, part.documents, ())
    with pytest.raises(ValueError, match="not asked for texts"):
        found.score("BLEU")


def test_scores_with_signatures(loaded: Loaded, pairs: Dataset) -> None:
    pytest.importorskip("sacrebleu")
    perfect = evaluate_pairs(loaded, pairs, translate=lambda sources: [s.upper() for s in sources])
    assert perfect.score("BLEU") == pytest.approx(100) and perfect.score("chrF2") == pytest.approx(100)
    assert "tok:13a" in perfect.scores[0].signature and "version:" in perfect.scores[0].signature
    assert sum(group.pairs for group in perfect.by_length) == perfect.pairs
    half = evaluate_pairs(loaded, pairs, translate=lambda s: [x.upper() if len(x.split()) <= 10 else "NEIN NEIN NEIN" for x in s])
    assert [round(group.bleu) for group in half.by_length] == [100, 0]
    assert half.by_length[0].high == 10 and 0 < half.score("BLEU") < 100
    source, reference, made = perfect.texts[0]
    assert reference == source.upper() == made


def test_chinese_is_counted_by_characters() -> None:
    pytest.importorskip("sacrebleu")
    score = translation.scores(["他在草地上跑步"], ["他在草地上奔跑"])[0]
    assert "tok:zh" in score.signature and score.value > 20


def test_another_tokenizer(loaded: Loaded, pairs: Dataset, tmp_path: Path) -> None:
    """The model's own tokens are scored, whatever the data was prepared with."""
    text = tmp_path / "a.tsv"
    part = pairs.split("validation")
    assert part.source is not None
    decode = pairs.tokenizer.decode
    rows = [(decode(part.source.document(i)), decode(part.document(i))) for i in range(part.documents)]
    text.write_text("".join(f"{a}\t{b}\n" for a, b in rows), encoding="utf-8")
    other = prepare(text, tmp_path / "data", pairs=True, tokenizer="chars", validation=0, test=0, workers=1)
    here, there = evaluate_pairs(loaded, pairs), evaluate_pairs(loaded, other, "train")
    assert there.loss == pytest.approx(here.loss, rel=1e-5) and "another tokenizer" in there.notes[0]


def test_command_line(loaded: Loaded, pairs: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("sacrebleu")
    folder = tmp_path / "model"
    huggingface.save(folder, loaded.model, loaded.spec, loaded.tokenizer, context=64)
    out = tmp_path / "found.json"
    assert cli.main(["evaluate", str(folder), str(pairs.root), "--beam", "2", "--documents", "3", "--json", str(out)]) == 0
    shown = capsys.readouterr().out
    assert "BLEU" in shown and "nrefs:1" in shown and "beam 2, length penalty 0.6" in shown
    assert json.loads(out.read_text())["pairs"] == 3
    assert cli.main(["generate", str(folder), "--source", "ein Hund", "--beam", "3", "-n", "2", "--max-tokens", "5"]) == 0
    assert capsys.readouterr().out.count("--- ") == 2
    assert cli.main(["evaluate", str(folder), str(pairs.root), "--beam", "0"]) == 0
    assert "BLEU" not in capsys.readouterr().out


def test_what_does_not_fit(loaded: Loaded, pairs: Dataset, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one\ntwo\nthree\n" * 30, encoding="utf-8")
    single = prepare(
        tmp_path / "a.txt", tmp_path / "data", tokenizer="bytes", split_documents="line", keep_repeats=True, workers=1
    )
    with pytest.raises(ValueError, match="genus prepare --pairs"):
        evaluate_pairs(loaded, single)
    spec = genus.recipe("gpt2", dim=32, depth=1, heads=2, vocab=257).model
    decoder = Loaded(spec.build().eval(), spec, pairs.tokenizer, Path("nowhere"), {})
    with pytest.raises(ValueError, match="no encoder"):
        evaluate_pairs(decoder, pairs)
