"""The code in CONTRIBUTING.md: its op equals its reference, its recipes have every property, its objective trains."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def contributed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the page's code as the module `contributed`. It runs in processes of its own: it registers recipes."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    code = "\n\n".join(re.findall(r"^```python\n(.*?)^```", text, re.M | re.S))
    folder = tmp_path_factory.mktemp("contributed")
    (folder / "contributed.py").write_text(code, encoding="utf-8")
    return folder


def python(folder: Path, *arguments: str) -> str:
    environment = os.environ | {"PYTHONPATH": str(folder)}
    done = subprocess.run([sys.executable, *arguments], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_recipes_have_every_property(contributed: Path) -> None:
    printed = python(
        contributed,
        *("-m", "pytest", "-p", "contributed", "-n", "0", "-q", "-p", "no:cacheprovider"),
        *("tests/properties/test_recipes.py", "-k", "gated-gpt2 or average-gpt2"),
    )
    passed = re.search(r"(\d+) passed", printed)
    assert passed and int(passed[1]) >= 40, printed


def test_op_is_its_reference(contributed: Path) -> None:
    code = """
import torch
from contributed import running_mean
from genus.ops.dispatch import forced

torch.manual_seed(0)
x, total, count = torch.randn(2, 20, 5), torch.randn(2, 5), torch.tensor([[3.0], [0.0]])
pad = torch.rand(2, 20) < 0.2
fresh = (torch.rand(2, 20) < 0.2) & ~pad
fast = running_mean(x, fresh, pad, total, count)
with forced(running_mean="reference"):
    slow = running_mean(x, fresh, pad, total, count)
for a, b in zip(fast, slow):
    torch.testing.assert_close(a, b.to(a.dtype), atol=1e-5, rtol=1e-5)
"""
    python(contributed, "-c", code)


def test_objective_trains(contributed: Path, after_quickstart: Path, tmp_path: Path) -> None:
    code = """
import sys
import contributed
from genus.cli import main
sys.exit(main(sys.argv[1:]))
"""
    words = [
        "train",
        "average-gpt2",
        str(after_quickstart / "data"),
        "-o",
        str(tmp_path / "run"),
        "--tokens",
        "2k",
        "--batch",
        "2",
    ]
    python(contributed, "-c", code, *words, "--context", "32", "objective=Late", "objective.skip=16")
    assert '"part": "Late"' in (tmp_path / "run" / "run.json").read_text(encoding="utf-8")
