"""Triton's compiler takes the kernels, for GPUs that need not be there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton")
SMALL = 99 * 1024  # bytes of shared memory that a program has on GPUs for consumers; others have 163 and more


def test_kernels_compile_and_find_room(tmp_path: Path) -> None:
    """In a process of its own, since this one has Triton's interpreter in the place of its compiler."""
    environment = os.environ | {"TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(tmp_path), "TRITON_DEFAULT_FP_FUSION": "1"}
    script = Path(__file__).with_name("machine_code.py")
    run = subprocess.run([sys.executable, script], env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    told = [json.loads(line) for line in run.stdout.splitlines()]
    assert {line["kernel"] for line in told} == {"_double", "_losses", "_invert", "_forward", "_backward"}
    assert {line["gpu"] for line in told} == {86, 90}
    assert not [line for line in told if line["shared"] > SMALL or line["stack"] > (1024 if line["wide"] else 0)]
