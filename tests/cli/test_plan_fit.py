"""`genus plan fit`: a table in, a law and how well it is known out."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from genus import cli
from genus.plan.fit import Law


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Ten runs of four points."""
    rng = np.random.default_rng(0)
    lines = ["model,width,tokens,val,unique,set"]
    for i, n in enumerate(10 ** np.linspace(6.5, 9, 10)):
        for d in 10 ** rng.uniform(8.5, 11, 4):
            loss = (1.7 + 400 / n**0.34 + 2000 / d**0.37) * np.exp(rng.normal(0, 0.003))
            lines.append(f"m{i},{n:.0f},{d:.0f},{loss:.5f},{d:.0f},a")
    lines.append("m0,3000000,1000000000,nan,1000000000,b")
    (tmp_path / "runs.csv").write_text("\n".join(lines) + "\n")
    return tmp_path / "runs.csv"


COLUMNS = ("--columns", "params=width", "loss=val")


def output(capsys: pytest.CaptureFixture[str], *words: str, status: int = 0) -> str:
    assert cli.main(["plan", "fit", *words]) == status
    shown = capsys.readouterr()
    return shown.err if status else shown.out


def test_the_law_its_intervals_and_its_profiles(capsys: pytest.CaptureFixture[str], table: Path, tmp_path: Path) -> None:
    out = tmp_path / "law.json"
    words = (str(table), *COLUMNS, "--where", "set=a", "--by", "model", "--repeats", "6", "--json", str(out))
    shown = output(capsys, *words)
    assert "runs.csv: 40 rows, 10 runs" in shown and "E + A/N^alpha + B/D^beta" in shown
    found = json.loads(out.read_text())
    law = Law.from_json(found["law"])
    assert law.values["alpha"] == pytest.approx(0.34, abs=0.05) and law.rows == 40
    line = next(x for x in shown.splitlines() if x.startswith("alpha"))
    low, high = found["intervals"]["alpha"]
    assert f"{law.values['alpha']:.4g}" in line and f"{low:.4g} to {high:.4g}" in line and low < high
    assert found["profiles"]["alpha"]["low"] < law.values["alpha"] < found["profiles"]["alpha"]["high"]
    assert f"residuals: typically {law.spread:.2%}" in shown and f"objective {law.objective:.8g}" in shown
    alpha, beta = law.values["alpha"], law.values["beta"]
    assert f"compute^{beta / (alpha + beta):.3f}" in shown
    assert "careful" not in shown and found["refused"] is None
    assert "rows within 8 % of the best of their compute" in shown and found["near_optimal"]["rows"] < 40


def test_what_is_flat_is_not_printed_as_a_number(capsys: pytest.CaptureFixture[str], table: Path) -> None:
    """No token is seen twice, so nothing is known of repetition."""
    fix = ("--fix", "E=1.7", "A=400", "B=2000", "alpha=0.34", "beta=0.37", "R_N=5")
    shown = output(capsys, str(table), *COLUMNS, "--drop", "--form", "repeated", *fix, "--repeats", "0", "--profile", "R_D")
    line = next(x for x in shown.splitlines() if x.startswith("R_D"))
    assert " ".join(line.split()) == "R_D flat: any value fits equally well"
    assert "E                1.7   given" in shown
    grid = shown[shown.index("above the least") :].splitlines()[1:]
    assert len(grid) > 3 and all(x.endswith("*") for x in grid)


def test_a_ladder_of_one_ratio_is_called_what_it_is(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    sizes = 10 ** np.linspace(6.5, 9, 12)
    noise = np.random.default_rng(0).normal(0, 0.003, 12)
    losses = (1.7 + 400 / sizes**0.34 + 2000 / (20 * sizes) ** 0.37) * np.exp(noise)
    (tmp_path / "ladder.csv").write_text("N,D,loss\n" + "".join(f"{n},{20 * n},{y}\n" for n, y in zip(sizes, losses)))
    shown = output(capsys, str(tmp_path / "ladder.csv"), "--repeats", "0")
    assert "careful: tokens follow size" in shown and "cannot be told apart" in shown


def test_mistakes_are_explained(capsys: pytest.CaptureFixture[str], table: Path) -> None:
    assert "missing columns params" in output(capsys, str(table), status=2)
    assert "'loss' must be a positive number" in output(capsys, str(table), *COLUMNS, status=2)
    assert "no form 'cubic'" in output(capsys, str(table), "--form", "cubic", status=2)
    good = (str(table), *COLUMNS, "--drop")
    assert "takes NAME=VALUE" in output(capsys, *good, "--fix", "E", status=2)
    assert "is not a number" in output(capsys, *good, "--fix", "E=big", status=2)
    assert "no free parameter 'gamma'" in output(capsys, *good, "--profile", "gamma", status=2)
    assert "none.csv" in output(capsys, "none.csv", status=2)


def test_it_answers_without_torch(table: Path) -> None:
    words = ["plan", "fit", str(table), *COLUMNS, "--drop", "--repeats", "2"]
    code = f"import sys; from genus import cli; assert cli.main({words!r}) == 0; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)
