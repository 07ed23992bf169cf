"""The number of threads: who is obeyed, what noise does, what is kept."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from genus.ops.processor import Processor
from genus.train import threads as module
from genus.train.threads import Threads, candidates, choose, known, measure, settle

MACHINE = Processor("Fast 9000", 8, 4, (8, 4), None, (), 0, 0, None)
Machine = Callable[..., list[str]]


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No variables, a cache of its own, torch's threads put back."""
    for name in (module.VARIABLE, *module.OTHERS):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    before = torch.get_num_threads()
    module._settled.cache_clear()
    yield
    module._settled.cache_clear()
    torch.set_num_threads(before)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    """`machine(speeds, share)`: what will be measured on MACHINE; returns the list of measurements that were made."""
    made: list[str] = []

    def install(speeds: dict[int, list[float]], share: float = 1.0) -> list[str]:
        def measured(counts: list[int]) -> tuple[dict[int, list[float]], float]:
            made.append("measured")
            assert counts == candidates(MACHINE)
            return speeds, share

        monkeypatch.setattr(module, "measure", measured)
        monkeypatch.setattr(module, "processor", lambda: MACHINE)
        monkeypatch.setattr(module, "default_device", lambda: torch.device("cpu"))
        return made

    return install


def test_what_may_be_best() -> None:
    assert candidates(MACHINE) == [4, 8, 2, 1]
    assert candidates(replace(MACHINE, logical=2, physical=2, usable=(2, 2))) == [2, 1]
    assert candidates(replace(MACHINE, usable=(1, 1))) == [1]
    assert candidates(replace(MACHINE, quota=2.0)) == [2, 1]  # a container that sees more than it may use


@pytest.mark.parametrize(
    ("speeds", "count"),
    [
        ({2: [2.0] * 7, 1: [1.0] * 7}, 2),
        ({2: [1.0] * 7, 1: [1.08] * 7}, 2),  # not clearly faster
        ({2: [1.0] * 7, 1: [1.2] * 7}, 1),
        ({2: [2, 2, 0.1, 2, 0.1, 2, 0.1], 1: [1.0] * 7}, 2),  # something else ran in some of the rounds
        ({2: [1, 2, 3, 1, 2, 3, 1], 1: [1.3, 2.6, 3.9, 1.3, 2.6, 3.9, 1.3]}, 1),  # the clock changes, for both
        ({4: [4.0] * 7, 8: [5.0] * 7, 2: [3.0] * 7}, 8),
    ],
)
def test_noise_does_not_choose(speeds: dict[int, list[float]], count: int) -> None:
    cores = next(iter(speeds))
    assert choose(cores, speeds, 1.0).count == count
    disturbed = choose(cores, speeds, 0.6)
    assert disturbed.count == cores and disturbed.source == "cores" and disturbed.disturbed


def test_measured_once(machine: Machine) -> None:
    made = machine({4: [1.0] * 7, 8: [1.3] * 7, 2: [0.5] * 7, 1: [0.3] * 7})
    said: list[str] = []
    assert known() == Threads(4, "cores")
    assert settle(said.append).count == 8 == torch.get_num_threads()
    assert said == ["threads: 8, measured on this machine"]
    torch.set_num_threads(1)
    module._settled.cache_clear()  # another process
    assert settle().count == 8 == torch.get_num_threads() == known().count
    assert made == ["measured"]


def test_another_torch_measures_anew(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    made = machine({4: [1.0] * 7, 8: [1.3] * 7, 2: [0.5] * 7, 1: [0.3] * 7})
    settle()
    module._settled.cache_clear()
    monkeypatch.setattr(torch, "__version__", "9.9")
    settle()
    assert len(made) == 2


def test_a_disturbed_measurement_is_not_kept(machine: Machine, tmp_path: Path) -> None:
    made = machine({4: [1.0] * 7, 8: [1.0] * 7, 2: [2.0] * 7, 1: [3.0] * 7}, share=0.5)
    assert settle().count == 4 == torch.get_num_threads() and not list(tmp_path.iterdir())
    assert settle().count == 4 and len(made) == 1  # once for each process
    module._settled.cache_clear()
    settle()
    assert len(made) == 2


def test_a_damaged_file_is_measured_over(machine: Machine) -> None:
    made = machine({4: [1.0] * 7, 8: [1.0] * 7, 2: [0.5] * 7, 1: [0.3] * 7})
    settle()
    (file,) = Path(module.cache_folder()).iterdir()
    file.write_text("{")
    module._settled.cache_clear()
    assert settle().count == 4 and len(made) == 2


def test_the_user_is_obeyed(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    made = machine({})
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    before = torch.get_num_threads()
    assert settle() == Threads(before, "OMP_NUM_THREADS") and torch.get_num_threads() == before
    module._settled.cache_clear()
    monkeypatch.setenv("GENUS_THREADS", "3")
    assert settle() == Threads(3, "GENUS_THREADS") and torch.get_num_threads() == 3 and not made
    assert known().reason == "GENUS_THREADS says so"


@pytest.mark.parametrize("text", ["0", "two", "-1", "1.5", "100000"])
def test_no_number_of_threads(machine: Machine, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    machine({})
    monkeypatch.setenv("GENUS_THREADS", text)
    with pytest.raises(ValueError, match=r"GENUS_THREADS=.*write a number"):
        settle()


def test_really_measured() -> None:
    before = torch.get_num_threads()
    speeds, share = measure([1], rounds=2)
    assert len(speeds[1]) == 2 and min(speeds[1]) > 0 and 0 < share < 1.5
    assert torch.get_num_threads() == before
