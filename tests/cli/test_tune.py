"""`genus tune` and `genus predict` on the command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from genus.cli import main
from genus.run import Run


def test_tune_and_predict(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = "".join(f"the film was {('bad', 'good')[i % 2]} {i},{('neg', 'pos')[i % 2]}\n" for i in range(40))
    (tmp_path / "labels.csv").write_text("text,label\n" + rows)
    out = tmp_path / "run"
    sizes = ["dim=32", "depth=1", "heads=2"]
    how = ["--epochs", "2", "--seeds", "1", "--dtype", "fp32", "--context", "32", "--method", "frozen"]
    assert main(["tune", "bert", str(tmp_path / "labels.csv"), "-o", str(out), *sizes, *how]) == 0
    said = capsys.readouterr().err
    assert "tuning: frozen," in said and f"next: genus predict {out} FILE -o OUT" in said
    assert Run.open(out).config["options"]["overrides"] == sizes
    assert main(["predict", str(out), str(tmp_path / "labels.csv"), "-o", str(tmp_path / "out.csv")]) == 0
    assert "40 rows to" in capsys.readouterr().err and (tmp_path / "out.csv").read_text().startswith("text,label,prediction")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["tune"], "name a base and the labels"),
        (["tune", "bert", "nowhere.csv"], "no such file or folder: nowhere.csv"),
        (["tune", "bert", "x.csv", "--resume", "run"], "leave out BASE and LABELS"),
        (["predict", "nowhere", "x.csv"], "nowhere"),
    ],
)
def test_mistakes_are_one_line(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    assert message in capsys.readouterr().err
