"""Findings: what is broken or missing, and the command that puts it right."""

from __future__ import annotations

import shutil
import sys
from dataclasses import dataclass
from typing import Literal

from genus.doctor.examination import Examination

# What installs a package of the system, by the program that is there.
INSTALLERS = (
    ("apt-get", "sudo apt-get install -y {}"),
    ("dnf", "sudo dnf install -y {}"),
    ("zypper", "sudo zypper install -y {}"),
    ("pacman", "sudo pacman -S --noconfirm {}"),
    ("apk", "sudo apk add {} musl-dev"),
    ("conda", "conda install -y -c conda-forge {}"),
)
OTHER_NAMES = {
    ("dnf", "g++"): "gcc-c++",
    ("zypper", "g++"): "gcc-c++",
    ("pacman", "g++"): "gcc",
    ("conda", "gcc"): "c-compiler",
    ("conda", "g++"): "cxx-compiler",
}
QUIET = 0.9  # share of its cores' time that a computing process has on a machine left alone
CHANNEL = "https://download.pytorch.org/whl/cu130"


@dataclass(frozen=True)
class Finding:
    """Attributes:
    kind: "broken" (a command will fail), "slow" (it will take longer than it must), or "missing" (something optional).
    what: in a sentence. command: what puts it right; "" = nothing can.
    """

    kind: Literal["broken", "slow", "missing"]
    what: str
    command: str = ""


def findings(e: Examination) -> list[Finding]:
    """What is to be said, the worst first."""
    found = [*_needed(e), *_wrong(e), *_kernels(e), *_busy(e), *_accelerator(e), *_extras(e)]
    return sorted(found, key=lambda f: ("broken", "slow", "missing").index(f.kind))


def broken(found: list[Finding]) -> bool:
    """Whether a command would fail."""
    return any(f.kind == "broken" for f in found)


def _needed(e: Examination) -> list[Finding]:
    lacking = [p for p in e.needed if not p.fits]
    found = [
        Finding(
            "broken",
            f"{p.name} {p.version} is too old" if p.version else f"{p.name} is not installed",
            f"pip install --upgrade '{p.name}{p.wanted}'",
        )
        for p in lacking
    ]
    if e.broken and not any(p.name in ("torch", "numpy") for p in lacking):
        what = f"torch cannot be imported ({e.broken})"
        found.append(Finding("broken", what, "pip install --force-reinstall --no-cache-dir torch numpy"))
    return found


def _wrong(e: Examination) -> list[Finding]:
    """Paths that do not give what their op's definition gives."""
    return [
        Finding(
            "broken",
            f"{p.op} gives wrong numbers by its path {p.path} ({p.shapes}: {p.distance:.1%} off); please report it. "
            "Without AVX-512 other paths run",
            "export ATEN_CPU_CAPABILITY=avx2" if p.path == "native" else "",
        )
        for p in e.paths
        if not p.right
    ]


def _kernels(e: Examination) -> list[Finding]:
    if e.kernels is None:
        return []
    found = []
    reasons = sorted({reason for reason in e.kernels.reasons.values() if reason})
    if reasons and e.kernels.compiler is None and "compiler" in reasons[0]:
        found.append(Finding("slow", f"kernels are not compiled: {reasons[0]}", _system("gcc")))
    elif reasons and "could not be compiled" in reasons[0]:
        found.append(Finding("slow", f"kernels are not compiled: {reasons[0]}", f"{_system('gcc')}  # a newer compiler"))
    if not e.kernels.writable:
        what = f"{e.kernels.folder} cannot be written to: kernels are compiled, and threads measured, by every command anew"
        found.append(Finding("slow", what, "export XDG_CACHE_HOME=FOLDER  # one that you can write to"))
    if shutil.which("g++") is None and shutil.which("clang++") is None:
        found.append(Finding("missing", "no C++ compiler, so no --compile (torch.compile)", _system("g++")))
    return found


def _busy(e: Examination) -> list[Finding]:
    """Others on the same cores, and what is best meanwhile."""
    t = e.threads
    measured = (None if t is None else t.share, None if e.ceilings is None else e.ceilings.share)
    shares = [share for share in measured if share is not None]
    if t is None or not shares or min(shares) >= QUIET:
        return []
    what = f"something else is running: computing threads had {min(shares):.0%} of their cores, so speeds are low"
    told = dict(t.speeds) if t.disturbed else {}
    best = max(told, key=lambda count: told[count], default=t.count)
    if best == t.count:
        return [Finding("slow", what)]
    what += f"; while it runs, {best} {'threads are' if best > 1 else 'thread is'} {told[best] / told[t.count]:.1f} times as fast"
    return [Finding("slow", what, f"export GENUS_THREADS={best}")]


def _accelerator(e: Examination) -> list[Finding]:
    if e.torch is None or e.accelerators or e.torch.cuda or shutil.which("nvidia-smi") is None:
        return []
    what = "there is an NVIDIA driver, but this torch is built for the processor alone"
    return [Finding("slow", what, f"pip install --force-reinstall torch --index-url {CHANNEL}")]


def _extras(e: Examination) -> list[Finding]:
    return [Finding("missing", f"extra {x.name}: {', '.join(x.missing)}", x.command) for x in e.extras if x.missing]


def _system(package: str) -> str:
    """The command that installs a package of the system."""
    if sys.platform == "darwin":
        return "xcode-select --install"
    for program, command in INSTALLERS:
        if shutil.which(program):
            return command.format(OTHER_NAMES.get((program, package), package))
    return f"install {package} with your system's package manager"
