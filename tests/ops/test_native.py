"""Kernels in C: compiled once, into a folder of one's own; and what happens where they cannot be had."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from genus.ops import native


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The kernel, really compiled, once for this file."""
    if native.reason("linear"):
        pytest.skip(native.reason("linear"))
    file = tmp_path_factory.mktemp("compiled") / "linear.so"
    native._compile(shutil.which("gcc") or "cc", native.SOURCES / "linear.c", native._openmp(), file)
    assert [f.name for f in file.parent.iterdir()] == ["linear.so"]
    return file


@pytest.fixture
def compilations(compiled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Path]]:
    """What is compiled meanwhile, into a cache of this test's own."""
    files: list[Path] = []

    def compile(compiler: str, source: Path, openmp: Path | None, file: Path) -> None:
        files.append(file)
        shutil.copy(compiled, file)

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(native.tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(native, "_compile", compile)
    native.library.cache_clear()
    native._load.cache_clear()
    yield files
    native.library.cache_clear()
    native._load.cache_clear()


def test_compiled_once_and_kept(compilations: list[Path], tmp_path: Path) -> None:
    assert native.library("linear") is not None and native.reason("linear") == ""
    native._load.cache_clear()
    native.library.cache_clear()
    assert native.library("linear") is not None
    (file,) = compilations
    assert file.parent == tmp_path / "cache" / "genus" / "kernels" and file.parent.stat().st_mode & 0o077 == 0


def test_one_openmp_for_torch_and_the_kernel(compilations: list[Path]) -> None:
    """Two would keep two sets of threads; what else is in the process (scikit-learn) may bring its own."""

    def loaded() -> set[str]:
        return {found[0] for found in native.OPENMP.finditer(Path("/proc/self/maps").read_text(encoding="utf-8"))}

    torch.randn(300, 300) @ torch.randn(300, 300)
    before = loaded()
    assert native.library("linear") is not None
    assert before and loaded() == before


def test_a_folder_that_others_can_write_to_is_not_used(compilations: list[Path], tmp_path: Path) -> None:
    folder = tmp_path / "cache" / "genus" / "kernels"
    folder.mkdir(parents=True)
    folder.chmod(0o777)
    assert native.library("linear") is not None
    assert not list(folder.iterdir()) and compilations[0].parent != folder


def test_without_a_compiler_it_says_so_once(compilations: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native.shutil, "which", lambda _: None)
    with pytest.warns(RuntimeWarning, match="there is no C compiler"):
        assert native.library("linear") is None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert native.library("linear") is None
    assert "no C compiler" in native.reason("linear")


def test_a_compiler_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compiled: Path) -> None:
    broken = tmp_path / "broken"
    broken.write_text("#!/bin/sh\necho 'unrecognized option -mavx512bf16' >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("CC", str(broken))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    native.library.cache_clear()
    native._load.cache_clear()
    try:
        with pytest.warns(RuntimeWarning, match="could not be compiled.*unrecognized option"):
            assert native.library("linear") is None
    finally:
        native.library.cache_clear()
        native._load.cache_clear()


def test_torch_held_back_holds_it_back_too() -> None:
    """The whole way on a processor that can do less: other storages, other paths, the same numbers."""
    code = """
import torch
from genus.ops.linear import linear
from genus.ops.native import reason
from genus.ops.packed import Tiles, pack
assert "AVX-512" in reason("linear") or "Linux" in reason("linear"), reason("linear")
weight, x = torch.randn(64, 128), torch.randn(2, 128)
for format, near in (("bf16", 0.01), ("int8", 0.03), ("int4", 0.2)):
    stored = pack(weight, format)
    assert not isinstance(stored, Tiles)
    error = (linear(x.bfloat16(), stored).float() - x @ weight.T).norm() / (x @ weight.T).norm()
    assert error < near, (format, float(error))
"""
    environment = os.environ | {"ATEN_CPU_CAPABILITY": "avx2"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
