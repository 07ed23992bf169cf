"""The wheel holds what the code reads: the page, the styles, the sources in C, the tables."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src"


def test_the_wheel_holds_every_file_of_the_package() -> None:
    wheel = pytest.importorskip("hatchling.builders.wheel").WheelBuilder(str(ROOT))
    packed = {file.distribution_path for file in wheel.recurse_included_files()}
    there = {file.relative_to(SOURCE).as_posix() for file in (SOURCE / "genus").rglob("*") if file.is_file()}
    there = {path for path in there if "__pycache__" not in path}
    assert packed == there
    read = ("serve/page/index.html", "serve/page/main.js", "report/view/attention.js", "ops/cpu/linear.c", "py.typed")
    assert {f"genus/{path}" for path in read} <= packed
