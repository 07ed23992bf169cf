"""What the system says of the processor, read from files like its own."""

import subprocess
import sys
from pathlib import Path

import pytest

from genus.ops import processor as module
from genus.ops.processor import processor


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine of two cores with two hardware threads each, 8 GiB."""
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/cpuinfo").write_text(
        "processor : 0\nmodel name\t: Fast 9000\nflags\t\t: fpu avx2 avx512f avx512_bf16 fma\n"
    )
    (tmp_path / "proc/meminfo").write_text("MemTotal:  8388608 kB\nMemFree: 1 kB\nMemAvailable:  4194304 kB\n")
    (tmp_path / "proc/self/cgroup").write_text("0::/jobs/mine\n")
    for cpu in range(4):
        place = tmp_path / f"sys/devices/system/cpu/cpu{cpu}/topology"
        place.mkdir(parents=True)
        (place / "physical_package_id").write_text("0\n")
        (place / "core_id").write_text(f"{cpu % 2}\n")
    (tmp_path / "sys/devices/system/cpu/cpufreq").mkdir()
    monkeypatch.setattr(module.os, "cpu_count", lambda: 4)
    monkeypatch.setattr(module, "_affinity", lambda: {0, 1, 2, 3})
    return tmp_path


def group(root: Path, folder: str, **files: str) -> None:
    place = root / "sys/fs/cgroup" / folder
    place.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (place / name.replace("__", ".")).write_text(text)


def test_hardware_threads_are_no_cores(root: Path) -> None:
    found = processor(root)
    assert (found.name, found.logical, found.physical, found.usable, found.cores) == ("Fast 9000", 4, 2, (4, 2), 2)
    assert found.instructions == ("AVX2", "FMA", "AVX-512", "AVX-512 BF16")
    assert (found.memory, found.free, found.limit, found.quota) == (8 * 2**30, 4 * 2**30, None, None)


@pytest.mark.parametrize(("mine", "usable"), [({0, 2}, (2, 1)), ({0, 1}, (2, 2)), ({3}, (1, 1)), (set(), (4, 2))])
def test_affinity(root: Path, monkeypatch: pytest.MonkeyPatch, mine: set[int], usable: tuple[int, int]) -> None:
    monkeypatch.setattr(module, "_affinity", lambda: mine)
    assert processor(root).usable == usable


def test_control_groups_around_this_one_count(root: Path) -> None:
    group(root, "", cpu__max="max 100000\n", memory__max="max\n")
    group(root, "jobs", cpu__max="150000 100000\n", memory__max=f"{3 * 2**30}\n")
    group(root, "jobs/mine", cpu__max="400000 100000\n", memory__max=f"{6 * 2**30}\n")
    found = processor(root)
    assert found.quota == 1.5 and found.limit == 3 * 2**30 and found.cores == 2
    group(root, "jobs/mine", cpu__max="50000 100000\n")
    assert processor(root).cores == 1


def test_threads_that_can_be_kept_busy(root: Path) -> None:
    """Hardware threads, not cores; the control group's share rounded up, so that half a core more is not left idle."""
    assert module.threads(root) == 4
    group(root, "jobs", cpu__max="250000 100000\n")
    assert module.threads(root) == 3
    group(root, "jobs/mine", cpu__max="20000 100000\n")
    assert module.threads(root) == 1


def test_control_groups_of_the_first_version(root: Path) -> None:
    (root / "proc/self/cgroup").write_text("5:memory:/mine\n4:cpu,cpuacct:/mine\n")
    group(root, "cpu/mine", cpu__cfs_quota_us="100000\n", cpu__cfs_period_us="50000\n")
    group(root, "cpu", cpu__cfs_quota_us="-1\n", cpu__cfs_period_us="100000\n")
    group(root, "memory/mine", memory__limit_in_bytes=f"{2**63 - 4096}\n")
    found = processor(root)
    assert found.quota == 2.0 and found.limit is None


def test_a_system_that_says_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_affinity", set)
    monkeypatch.setattr(module.os, "cpu_count", lambda: None)
    monkeypatch.setattr(module, "_asked", lambda _: "")
    found = processor(tmp_path)
    assert (found.logical, found.physical, found.cores, found.memory, found.instructions) == (1, 1, 1, 0, ())


def test_most_memory_is_that_of_this_process_alone() -> None:
    """`getrusage` begins with what the parent held when it started a child; a child that does nothing holds little."""
    held = bytearray(200 * 2**20)
    code = "from genus.ops.processor import peak_resident; print(peak_resident())"
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, close_fds=False)
    assert 2**20 < int(child.stdout) < len(held) < module.peak_resident()


def test_this_machine() -> None:
    found = processor()
    assert found.name and 1 <= found.cores <= found.usable[0] <= found.logical and found.physical <= found.logical
