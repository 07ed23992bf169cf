"""An examination as text for a terminal."""

from __future__ import annotations

from collections.abc import Iterator

from genus.doctor.examination import Examination, Path
from genus.doctor.findings import Finding

WIDTH = 13  # of the names on the left
SHAPES = 40  # of the column of shapes


def show(e: Examination, found: list[Finding]) -> Iterator[str]:
    """The lines."""
    yield f"genus {e.genus}, Python {e.python}, {e.system}"
    yield ""
    yield from _machine(e)
    if e.ceilings is not None:
        yield _line("matmul", f"fp32 {_rate(e.ceilings.fp32)}FLOP/s, bf16 {_rate(e.ceilings.bf16)}FLOP/s")
        yield _line("memory read", f"{_rate(e.ceilings.memory)}B/s")
    yield from _kernels(e)
    if e.paths:
        yield ""
        yield from _paths(e.paths)
    yield ""
    yield from _extras(e)
    yield ""
    yield from _findings(found)


def _line(name: str, text: str) -> str:
    return f"{name:<{WIDTH}}{text}"


def _machine(e: Examination) -> Iterator[str]:
    p = e.processor
    yield _line("processor", p.name)
    cores = f"{p.physical}" if p.logical == p.physical else f"{p.physical}, {p.logical} hardware threads"
    if p.usable != (p.logical, p.physical):
        cores += f"; this process may use {p.usable[1]}"
    if p.quota is not None:
        cores += f"; its control group gets the time of {p.quota:g}"
    yield _line("cores", cores)
    yield _line("instructions", ", ".join(p.instructions) or "the system does not say")
    memory = f"{p.memory / 2**30:.1f} GiB" if p.memory else "the system does not say"
    memory += f", {p.free / 2**30:.1f} free" if p.free else ""
    memory += f"; the control group may take {p.limit / 2**30:.1f}" if p.limit else ""
    yield _line("memory", memory)
    if e.torch is None:
        return
    build = f"CUDA {e.torch.cuda}" if e.torch.cuda else "processor only"
    yield _line("torch", f"{e.torch.version} ({build}); its own kernels use {e.torch.capability}")
    gpus = "; ".join(f"{a.name}, {a.memory / 2**30:.0f} GiB, capability {a.capability}" for a in e.accelerators)
    yield _line("GPU", gpus or "none")
    if e.threads is not None:
        speeds = ", ".join(f"{count}: {_rate(speed)}FLOP/s" for count, speed in e.threads.speeds)
        yield _line("threads", f"{e.threads.count} ({e.threads.reason})" + (f"; {speeds}" if speeds else ""))
    yield _line("allocator", "freed memory is kept" if e.allocator else "the system's own way (no glibc)")


def _kernels(e: Examination) -> Iterator[str]:
    if e.kernels is None:
        return
    k = e.kernels
    ready = [name for name, reason in k.reasons.items() if not reason]
    yield _line("compiler", k.compiler or "none")
    if ready:
        yield _line("kernels", f"{', '.join(ready)}; in {k.folder}")
    for reason in sorted({reason for reason in k.reasons.values() if reason}):
        yield _line("" if ready else "kernels", f"not there: {reason}")


def _paths(paths: tuple[Path, ...]) -> Iterator[str]:
    measured = any(p.forward is not None for p in paths)
    heads = f"{'forward':>10}{'backward':>10}{'GFLOP/s':>9}{'GB/s':>7}" if measured else ""
    yield f"{'operation':<22}{'path':<15}{'for example':<{SHAPES}}{heads}"
    for p in paths:
        shapes = p.shapes if len(p.shapes) < SHAPES else p.shapes[: SHAPES - 4] + "..."
        row = f"{p.op:<22}{p.path:<15}{shapes:<{SHAPES}}"
        if p.forward is not None:
            speed = f"{p.operations / p.forward / 1e9:.0f}" if p.operations else ""
            row += f"{_ms(p.forward):>10}{_ms(p.backward):>10}{speed:>9}{p.bytes / p.forward / 1e9:>7.1f}"
        yield row + ("" if p.right else "   WRONG")
    if measured:
        yield "speeds are those of the forward pass; what is small stays in the cache and may be read faster than memory"


def _extras(e: Examination) -> Iterator[str]:
    core = [f"{p.name} {p.version}" for p in e.needed if p.fits]
    yield _line("needed", ", ".join(core) or "the list of packages is not there: genus is not installed")
    for extra in e.extras:
        there = ", ".join(f"{p.name} {p.version}" if p.fits else f"({p.name})" for p in extra.packages)
        yield _line(f"[{extra.name}]", there)
    if any(x.missing for x in e.extras):
        yield _line("", "in brackets: not installed; none of these is needed")


def _findings(found: list[Finding]) -> Iterator[str]:
    if not found:
        yield "Nothing is missing."
    for finding in found:
        yield f"{finding.kind}: {finding.what}"
        if finding.command:
            yield f"  {finding.command}"


def _ms(seconds: float | None) -> str:
    """Three digits of milliseconds."""
    if seconds is None:
        return ""
    return f"{1e3 * seconds:.{0 if seconds >= 0.1 else 1 if seconds >= 0.01 else 2}f} ms"


def _rate(number: float) -> str:
    """ "1.23 T", "456 G"."""
    for unit, name in ((1e12, "T"), (1e9, "G"), (1e6, "M")):
        if number >= unit:
            return f"{number / unit:.3g} {name}"
    return f"{number:.3g} "
