"""Kernels in C for this processor: compiled on first use, kept in the cache folder, never required.

A file of `ops/cpu` is compiled by the C compiler that the system has ($CC, gcc or cc), in a second or two, and loaded. Its name
in the cache is a hash of all that it depends on. Where the processor, the system or the compiler does not serve, `reason` says so
and other paths run; ATEN_CPU_CAPABILITY=avx2, which holds torch's own kernels back, holds these back too.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import re
import shutil
import stat
import subprocess
import sys
import tempfile
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import torch

from genus.ops.cache import cache_folder

SOURCES = Path(__file__).parent / "cpu"
FLAGS = ("-std=gnu11", "-O3", "-fPIC", "-mfma", "-mavx512f", "-mavx512bw", "-mavx512vl", "-mavx512bf16", "-mavx512vnni")
OPENMP = re.compile(r"\S*/lib(gomp|iomp5|omp)\b[^/\s]*\.so[.\d]*$", re.MULTILINE)
PATIENCE = 120  # seconds for the compiler


Listener = Callable[["Kernel", Sequence[Any], Sequence[Any]], None]
_listeners: dict[int, Listener] = {}  # by thread: who is told of every call


class Unavailable(Exception):
    """Why there are no kernels here, in words."""


class Kernel:
    """A function of a library. Its arguments are whole numbers and addresses, 64 bits each, and it returns 0 or what failed.

    Args:
        kinds: "n" for a number and "p" for an address (None, a number, or an array or structure of ctypes), argument by argument.
    """

    def __init__(self, compiled: ctypes.CDLL, name: str, kinds: str) -> None:
        self.function = getattr(compiled, name)
        self.function.argtypes = [ctypes.c_int64 if kind == "n" else ctypes.c_void_p for kind in kinds]
        self.function.restype = ctypes.c_int64
        self.address: int = ctypes.cast(self.function, ctypes.c_void_p).value or 0

    def __call__(self, *arguments: Any, held: Sequence[Any] = ()) -> None:
        """Run it. `held`: the tensors behind the addresses.

        Raises:
            MemoryError: it says so.
        """
        if self.function(*arguments):
            raise MemoryError("no memory left for a kernel's intermediate results")
        if _listeners:
            listener = _listeners.get(threading.get_ident())
            if listener is not None:
                listener(self, arguments, held)


@contextmanager
def heard(listener: Listener) -> Iterator[None]:
    """Within the block, `listener` is told of every call that this thread makes: the kernel, its arguments, what is held."""
    _listeners[threading.get_ident()] = listener
    try:
        yield
    finally:
        del _listeners[threading.get_ident()]


@cache
def kernel(file: str, name: str, kinds: str) -> Kernel | None:
    """The function `name` of `ops/cpu/FILE.c`, or None where it cannot be had."""
    compiled = library(file)
    return None if compiled is None else Kernel(compiled, name, kinds)


@cache
def library(name: str) -> ctypes.CDLL | None:
    """The compiled `ops/cpu/NAME.c`; None where it cannot be had, with one warning where nothing but a compiler is missing."""
    try:
        _suits()
    except Unavailable:
        return None
    try:
        return _load(name)
    except Unavailable as error:
        warnings.warn(f"{error}; slower paths run instead", RuntimeWarning, stacklevel=2)
        return None


def computes(x: torch.Tensor) -> bool:
    """Whether a kernel may work on this: on the processor, bf16 or float32, not under a compiler."""
    return x.is_cpu and (x.dtype == torch.bfloat16 or x.dtype == torch.float32) and not torch.compiler.is_compiling()


def reads(x: torch.Tensor, *parameters: torch.Tensor) -> bool:
    """Whether a kernel that makes no gradient may read these: `computes(x)`, and none has a gradient."""
    return computes(x) and not (torch.is_grad_enabled() and (x.requires_grad or any(p.requires_grad for p in parameters)))


def pointer(x: torch.Tensor | None) -> int | None:
    """Where a tensor's numbers lie."""
    return None if x is None else x.data_ptr()


@cache
def number(value: float) -> ctypes.Array[ctypes.c_float]:
    """A float32 for a kernel to read."""
    return (ctypes.c_float * 1)(value)


def reason(name: str) -> str:
    """Why `library(name)` is None; empty where it is there."""
    try:
        _suits()
        _load(name)
    except Unavailable as error:
        return str(error)
    return ""


def find_compiler() -> str | None:
    """The C compiler: $CC, gcc or cc."""
    return next(filter(None, map(shutil.which, (os.environ.get("CC") or "gcc", "gcc", "cc"))), None)


def _suits() -> None:
    if sys.platform != "linux":
        raise Unavailable("the kernels in C are made for Linux")
    if torch.backends.cpu.get_cpu_capability() != "AVX512" or not torch.cpu._is_avx512_bf16_supported():
        raise Unavailable("the processor has no AVX-512 with bf16")


@cache
def _load(name: str) -> ctypes.CDLL:
    compiler = find_compiler()
    if compiler is None:
        raise Unavailable("there is no C compiler (gcc or cc; $CC names another)")
    source, openmp = SOURCES / f"{name}.c", _openmp()
    texts = [file.read_text(encoding="utf-8") for file in (source, *sorted(SOURCES.glob("*.h")))]
    key = hashlib.sha256("\n".join([*texts, *FLAGS, compiler, str(openmp)]).encode()).hexdigest()
    try:
        file = _folder() / f"{name}-{key[:16]}.so"
        if not file.exists():
            _compile(compiler, source, openmp, file)
        return ctypes.CDLL(str(file))
    except (OSError, subprocess.SubprocessError) as error:
        output = getattr(error, "stderr", None) or str(error)
        raise Unavailable(f"{source.name} could not be compiled with {compiler}: {output.strip()[-300:]}") from error


def _openmp() -> Path | None:
    """The OpenMP library that torch has loaded: threads of a second one would fight with its threads for the processors."""
    found = OPENMP.search(Path("/proc/self/maps").read_text(encoding="utf-8"))
    return Path(found[0]) if found else None


def _folder() -> Path:
    """A folder for compiled files that nobody else can write to, since they are run."""
    folder = cache_folder() / "kernels"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        state = folder.stat()
        if state.st_uid == os.getuid() and not state.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and os.access(folder, os.W_OK):
            return folder
    except OSError:
        pass
    return Path(tempfile.mkdtemp(prefix="genus-kernels-"))


def _compile(compiler: str, source: Path, openmp: Path | None, file: Path) -> None:
    """Compile under another name, so that no process ever loads half a file. What is undefined is an error here, not later."""
    with tempfile.TemporaryDirectory(dir=file.parent) as folder:
        parts, whole = Path(folder) / "part.o", Path(folder) / "whole.so"
        parallel = ("-fopenmp",) if openmp else ("-Wno-unknown-pragmas",)
        run = [[compiler, *FLAGS, *parallel, "-c", str(source), "-o", str(parts)]]
        run += [[compiler, "-shared", "-Wl,-z,defs", str(parts), *([str(openmp)] if openmp else []), "-lm", "-o", str(whole)]]
        for command in run:
            subprocess.run(command, check=True, capture_output=True, text=True, timeout=PATIENCE)
        whole.replace(file)
