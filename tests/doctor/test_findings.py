"""What is said to be broken, slow or missing, and with which command."""

from dataclasses import replace

import pytest

from genus.doctor import findings as module
from genus.doctor.examination import Accelerator, Ceilings, Examination, Kernels, Path, Torch
from genus.doctor.findings import Finding, broken, findings
from genus.doctor.packages import Extra, Package
from genus.doctor.show import show
from genus.ops.processor import Processor
from genus.train.threads import Threads

TORCH = Package("torch", ">=2.11", "2.13.0", True)
WELL = Examination(
    genus="1.0",
    python="3.11.7",
    system="Linux",
    processor=Processor("Fast 9000", 8, 4, (8, 4), None, ("AVX2",), 16 * 2**30, 8 * 2**30, None),
    needed=(TORCH,),
    extras=(Extra("data", (Package("ftfy", "", "6.3", True),)),),
    torch=Torch("2.13.0", "AVX512", None),
    threads=Threads(4, "measured", ((4, 4e11), (8, 3e11)), 1.0),
    allocator=True,
    kernels=Kernels("/usr/bin/gcc", "/home/me/.cache/genus/kernels", True, {"linear": "", "rows": ""}),
    ceilings=Ceilings(2e11, 4.1e11, 4.6e10),
    paths=(Path("linear", "native", "1x768, int8 768x768", "decoding", 1e-4, None, 0, 6 * 10**5, 0.007, True),),
)


@pytest.fixture(autouse=True)
def programs(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The programs that this system has."""
    there = {"apt-get", "g++"}
    monkeypatch.setattr(module.sys, "platform", "linux")
    monkeypatch.setattr(module.shutil, "which", lambda name: f"/usr/bin/{name}" if name in there else None)
    return there


def only(e: Examination) -> Finding:
    (found,) = findings(e)
    assert found.what in "\n".join(show(e, [found])) and found.command in "\n".join(show(e, [found]))
    return found


def test_nothing_is_missing() -> None:
    assert findings(WELL) == [] and not broken([])
    text = "\n".join(show(WELL, []))
    assert "Nothing is missing." in text
    assert "cores        4, 8 hardware threads" in text and "threads      4 (measured on this machine); 4: 400 GFLOP/s" in text
    assert "fp32 200 GFLOP/s, bf16 410 GFLOP/s" in text and "46 GB/s" in text
    assert "linear                native         1x768, int8 768x768" in text and "0.10 ms" in text and "6.0" in text


def test_needed_packages() -> None:
    found = only(replace(WELL, needed=(replace(TORCH, version="2.4.0", fits=False),)))
    assert found == Finding("broken", "torch 2.4.0 is too old", "pip install --upgrade 'torch>=2.11'") and broken([found])
    found = only(replace(WELL, needed=(TORCH, Package("scipy", ">=1.14", None, False))))
    assert found.what == "scipy is not installed" and found.kind == "broken"


def test_a_torch_that_cannot_be_imported() -> None:
    bare = Examination(WELL.genus, WELL.python, WELL.system, WELL.processor, WELL.needed, WELL.extras, "OSError: libtorch.so")
    found = only(bare)
    assert found.kind == "broken" and "libtorch.so" in found.what and "--force-reinstall" in found.command


def test_a_path_with_wrong_numbers() -> None:
    found = only(replace(WELL, paths=(replace(WELL.paths[0], distance=0.4, right=False),)))
    assert found.kind == "broken" and "40.0% off" in found.what and found.command == "export ATEN_CPU_CAPABILITY=avx2"
    assert "WRONG" in "\n".join(show(replace(WELL, paths=(replace(WELL.paths[0], right=False, distance=1.0),)), []))


@pytest.mark.parametrize(
    ("program", "command"),
    [
        ("apt-get", "sudo apt-get install -y gcc"),
        ("conda", "conda install -y -c conda-forge c-compiler"),
        ("none", "install gcc with"),
    ],
)
def test_no_compiler(programs: set[str], program: str, command: str) -> None:
    programs.remove("apt-get")
    programs.add(program)
    kernels = Kernels(None, "/tmp", True, dict.fromkeys(("linear", "rows"), "there is no C compiler (gcc or cc)"))
    found = only(replace(WELL, kernels=kernels))
    assert found.kind == "slow" and found.command.startswith(command)


def test_kernels_that_do_not_suit_the_machine_are_no_fault() -> None:
    kernels = Kernels(None, "/tmp", True, {"linear": "the processor has no AVX-512 with bf16"})
    e = replace(WELL, kernels=kernels)
    assert findings(e) == [] and "not there: the processor has no AVX-512" in "\n".join(show(e, []))


def test_a_compiler_that_fails_and_a_folder_that_is_closed() -> None:
    assert WELL.kernels is not None
    failing = replace(WELL.kernels, reasons={"linear": "linear.c could not be compiled with gcc: unknown option"})
    assert only(replace(WELL, kernels=failing)).command == "sudo apt-get install -y gcc  # a newer compiler"
    assert "XDG_CACHE_HOME" in only(replace(WELL, kernels=replace(WELL.kernels, writable=False))).command


def test_no_compiler_for_torch_compile(programs: set[str]) -> None:
    programs.remove("g++")
    found = only(WELL)
    assert found.kind == "missing" and found.command == "sudo apt-get install -y g++"


def test_a_busy_machine() -> None:
    threads = Threads(2, "cores", ((2, 1e11), (1, 2.5e11)), 0.55)
    found = only(replace(WELL, threads=threads))
    assert found.kind == "slow" and "55% of their cores" in found.what and "1 thread is 2.5 times as fast" in found.what
    assert found.command == "export GENUS_THREADS=1"
    assert only(replace(WELL, threads=replace(threads, speeds=((2, 3e11), (1, 2e11))))).command == ""
    told = Threads(1, "OMP_NUM_THREADS")  # nothing to choose, but the speeds are those of a busy machine
    found = only(replace(WELL, threads=told, ceilings=Ceilings(1e11, 2e11, 2e10, 0.4)))
    assert "had 40% of their cores" in found.what and found.command == ""
    assert findings(replace(WELL, ceilings=Ceilings(1e11, 2e11, 2e10, 0.97))) == []


def test_a_gpu_that_torch_cannot_use(programs: set[str]) -> None:
    programs.add("nvidia-smi")
    assert "built for the processor alone" in only(WELL).what
    assert WELL.torch is not None
    assert (
        findings(replace(WELL, torch=replace(WELL.torch, cuda="13.0"), accelerators=(Accelerator("H100", 2**36, "9.0"),))) == []
    )


def test_extras_come_last() -> None:
    lacking = Extra("media", (Package("av", "", None, False), Package("pillow", "", "13", True)))
    e = replace(WELL, extras=(lacking,), needed=(replace(TORCH, fits=False, version=None),))
    assert [f.kind for f in findings(e)] == ["broken", "missing"]
    found = only(replace(WELL, extras=(lacking,)))
    assert found == Finding("missing", "extra media: av", "pip install 'genus[media]'")
    assert "[media]      (av), pillow 13" in "\n".join(show(replace(WELL, extras=(lacking,)), []))
