"""Continued pre-training learns the new text, and replay keeps the old."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

import genus
from genus.prepare import prepare
from genus.train import trainer
from genus.tune.continued import continue_training, resume, table, train_options
from genus.tune.options import TuneOptions

OLD = ("the", "of", "river", "stone", "under", "bright", "water", "falls", "over", "old", "mill")
NEW = ("8314", "2250", "0071", "9996", "4520", "1188", "3307")


def say(_: str) -> None: ...


def data(folder: Path, words: tuple[str, ...], **options: Any) -> Path:
    dice = random.Random(5)
    lines = [" ".join(dice.choices(words, k=dice.randint(8, 60))) + ".\n" for _ in range(200)]
    folder.mkdir(parents=True)
    (folder / "text.txt").write_text("".join(lines), encoding="utf-8")
    prepare([folder / "text.txt"], folder / "data", split_documents="line", **{"tokenizer": "bytes", **options})
    return folder / "data"


@pytest.fixture(scope="module")
def corpora(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("corpora")
    return data(folder / "old", OLD), data(folder / "new", NEW)


@pytest.fixture(scope="module")
def base(corpora: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model of the old data."""
    sizes = ("dim=32", "depth=2", "heads=2")
    out = tmp_path_factory.mktemp("base") / "run"
    genus.train("llama", corpora[0], out, *sizes, say=say, tokens=40_000, batch=8, context=64, lr=1e-2, eval_tokens=4096)
    return out


def test_the_new_is_learnt_and_the_old_is_kept(base: Path, corpora: tuple[Path, Path], tmp_path: Path) -> None:
    old, new = corpora
    results = {}
    for share in (0.0, 0.3):
        out = tmp_path / f"{share}"
        options = TuneOptions(tokens=20_000, batch=8, eval_tokens=4096, lr=5e-3, replay=str(old), replay_share=share)
        told: list[str] = []
        run = continue_training(base, new, out, options, told.append)
        results[share] = found = json.loads((out / "results.json").read_text())
        assert found["before"] == results[0.0]["before"] == run.config["before"]
        assert found["after"]["new"]["bits_per_byte"] < found["before"]["new"]["bits_per_byte"] - 1
        assert any(line.startswith("old data, bits per byte") for line in told)
        page = (out / "report.html").read_text()
        assert "Before and after" in page and f"{found['after']['old']['loss']:.4f}" in page
    forgot, kept = (results[s]["after"]["old"]["bits_per_byte"] for s in (0.0, 0.3))
    was = results[0.0]["before"]["old"]["bits_per_byte"]
    assert kept < was + 0.5 * (forgot - was), (was, forgot, kept)


def test_an_interrupted_run_is_measured_at_its_end(
    base: Path, corpora: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = trainer.Trainer.launch

    def interrupted(self: trainer.Trainer) -> None:
        if self.progress.step == 5:
            raise KeyboardInterrupt
        real(self)

    options = TuneOptions(tokens=4096, batch=8, save_steps=2, replay=str(corpora[0]))
    monkeypatch.setattr(trainer.Trainer, "launch", interrupted)
    with pytest.raises(KeyboardInterrupt):
        continue_training(base, corpora[1], tmp_path / "run", options, say)
    monkeypatch.setattr(trainer.Trainer, "launch", real)
    resume(tmp_path / "run", say)
    found = json.loads((tmp_path / "run" / "results.json").read_text())
    assert set(found["before"]) == set(found["after"]) == {"new", "old"} and found["replay"]["share"] == 0.1


def test_a_masked_model_goes_on_with_its_own_objective(corpora: tuple[Path, Path], tmp_path: Path) -> None:
    genus.train("bert", corpora[0], tmp_path / "base", "dim=32", "depth=1", "heads=2", say=say, tokens=2048, batch=4, context=64)
    options = TuneOptions(tokens=2048, batch=4, replay=str(corpora[0]))
    continue_training(tmp_path / "base", corpora[1], tmp_path / "run", options, say)
    found = json.loads((tmp_path / "run" / "results.json").read_text())
    assert "accuracy" in found["after"]["old"] and "bits_per_byte" not in found["after"]["old"]


def test_mistakes_say_what_to_do(base: Path, corpora: tuple[Path, Path], tmp_path: Path) -> None:
    other = data(tmp_path / "other", NEW, tokenizer="chars")
    with pytest.raises(ValueError, match=rf"genus prepare .*text.txt -o {other}-again --tokenizer {base}"):
        continue_training(base, other, tmp_path / "x", TuneOptions(), say)
    with pytest.raises(ValueError, match=rf"-o {other}-again --tokenizer {base}"):
        continue_training(base, corpora[1], tmp_path / "x", TuneOptions(replay=str(other)), say)
    with pytest.raises(ValueError, match="--folds, --method: of no use"):
        train_options(TuneOptions(method="lora", folds=3))
    with pytest.raises(ValueError, match="genus train gpt2"):
        continue_training("gpt2", corpora[1], tmp_path / "x", TuneOptions(), say)
    assert not (tmp_path / "x").exists()


def test_the_table() -> None:
    lines = table({"new": {"loss": 2.0}}, {"new": {"loss": 1.5}})
    assert lines[1].split() == ["new", "data,", "loss", "2.0000", "1.5000", "-0.5000"]
