"""The pilot on losses that are known: which factor it takes, what it calls noise, where it looks further, what it refuses."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterable
from pathlib import Path

import pytest

from genus.plan.trials.pilot import Pilot, pilot
from genus.plan.trials.trial import Point, Result, Trial, run_trial
from genus.prepare.dataset import Dataset

HORIZONS = (100_000, 200_000, 400_000)


def size(parameters: int, recipe: str = "gpt2") -> Trial:
    return Trial(recipe, parameters, HORIZONS, "/nowhere", "fingerprint")


SIZES = [size(n) for n in (100_000, 200_000, 400_000, 800_000)]


class Known:
    """A runner whose trials end at once, with the bits per byte of a formula; None = diverged."""

    name, workers = "known", 1

    def __init__(self, bpb: Callable[[Trial], float | None]) -> None:
        self.bpb = bpb
        self.ran: list[Trial] = []

    def run(self, trials: Iterable[Trial], folder: str | Path) -> Generator[Result]:
        for one in trials:
            self.ran.append(one)
            value = self.bpb(one)
            if value is None:
                yield Result(one, "diverged", "loss 9 after 5 updates")
                continue
            points = tuple(Point(h, 1.0, value * (h / HORIZONS[-1]) ** -0.1, 1.0, h) for h in one.horizons)
            yield Result(one, "done", points=points, parameters={"total": one.parameters or 0})


def bowl(best: float, sharpness: float = 0.05, noise: float = 0.001) -> Callable[[Trial], float]:
    """Bits per byte that are least at factor `best`; seeds shift them."""

    def bpb(one: Trial) -> float:
        away = math.log2(one.lr_factor / best)
        return 2.0 * math.exp(sharpness * away**2 + noise * (one.seed - 1))

    return bpb


def tilted(best: float, sharpness: float = 0.05, noise: float = 0.001) -> Callable[[Trial], float]:
    """As `bowl`, the best factor falling with size as it usually does: `best` at the smallest."""
    return lambda one: bowl(best * ((one.parameters or 0) / 100_000) ** -0.36, sharpness, noise)(one)


def check(bpb: Callable[[Trial], float | None], tmp_path: Path, trials: list[Trial] = SIZES) -> tuple[Pilot, Known]:
    runner = Known(bpb)
    return pilot(trials, runner, tmp_path, seconds=lambda t: t.parameters or 0), runner


def test_where_and_what_is_tried(tmp_path: Path) -> None:
    """Three factors at the smallest size and at the second-largest, and two more seeds, all with the shortest horizon."""
    found, runner = check(tilted(1.0), tmp_path)
    tried = {(t.parameters, t.lr_factor, t.seed, len(t.horizons)) for t in runner.ran}
    rates = {(100_000, f, 0, 1) for f in (0.5, 1.0, 2.0)} | {(400_000, f, 0, 1) for f in (0.305, 0.61, 1.22)}
    assert tried == rates | {(100_000, 1.0, 1, 1), (100_000, 1.0, 2, 1)}
    gpt2 = found.checks["gpt2"]
    assert gpt2.factors == {100_000: 1.0, 400_000: 0.607} and "×1 at 100,000 parameters and ×0.607 at 400,000" in gpt2.notes[0]
    assert found.noise == pytest.approx(0.001) == gpt2.noise
    assert len(gpt2.rows) == 8


def test_a_better_rate_is_taken_and_one_beyond_it_tried(tmp_path: Path) -> None:
    found, runner = check(tilted(2.0), tmp_path)
    gpt2 = found.checks["gpt2"]
    assert {t.lr_factor for t in runner.ran if t.parameters == 100_000} == {0.5, 1.0, 2.0, 4.0}
    assert {t.lr_factor for t in runner.ran if t.parameters == 400_000} == {0.6, 1.2, 2.4}
    assert gpt2.factors == {100_000: 2.0, 400_000: 1.21} and not gpt2.edge and gpt2.gain == pytest.approx(1 - math.exp(-0.05))
    assert "4.9 % fewer" in gpt2.notes[0]


def test_sizes_that_want_different_rates_get_them(tmp_path: Path) -> None:
    found, _ = check(lambda t: bowl(8.0 if t.parameters == 100_000 else 2.45)(t), tmp_path)
    gpt2 = found.checks["gpt2"]
    assert gpt2.factors == {100_000: 8.0, 400_000: 2.45}
    assert gpt2.at(200_000) == pytest.approx(math.sqrt(8 * 2.45), rel=0.01)
    assert gpt2.at(50_000) == pytest.approx(8 * 2**0.36, rel=0.01)
    assert gpt2.at(4_000_000) == pytest.approx(2.45 * 10**-0.36, rel=0.01)
    assert gpt2.at(400_000, HORIZONS[0]) == 2.45 and gpt2.at(400_000, 256 * HORIZONS[0]) == 1.23  # longer runs want lower rates


@pytest.mark.parametrize(("best", "chosen"), [(256.0, 39.0), (1 / 256, 0.009)])
def test_the_best_at_the_edge_is_said(best: float, chosen: float, tmp_path: Path) -> None:
    found, _ = check(bowl(best), tmp_path)
    gpt2 = found.checks["gpt2"]
    assert (
        gpt2.factors[400_000] == pytest.approx(chosen, rel=0.1)
        and gpt2.edge
        and any("a better one may lie beyond" in n for n in gpt2.notes)
    )


def test_a_rate_between_those_that_were_tried(tmp_path: Path) -> None:
    """The parabola finds it, and noise that all factors of a seed share does not move it."""
    found, runner = check(tilted(1.4, sharpness=0.005, noise=0.02), tmp_path)
    assert {t.lr_factor for t in runner.ran if t.parameters == 100_000} == {0.5, 1.0, 2.0}
    assert found.checks["gpt2"].factors == {100_000: 1.4, 400_000: 0.85} and found.noise == pytest.approx(0.02)


def test_rates_that_diverge_are_not_taken(tmp_path: Path) -> None:
    """x2 would be best but diverges at one of the sizes; then x1 does too."""

    def bpb(one: Trial) -> float | None:
        return None if one.lr_factor >= 2 and one.parameters == 400_000 else bowl(4.0)(one)

    found, _ = check(bpb, tmp_path / "a")
    assert found.checks["gpt2"].at(400_000) < 2.0 and found.checks["gpt2"].usable
    assert "diverges at ×" in found.checks["gpt2"].notes[0]
    found, _ = check(lambda t: None if t.lr_factor >= 1 else 2.0, tmp_path / "b")
    assert found.checks["gpt2"].at(100_000) == 0.5 and "at ×1 it diverges" in " ".join(found.checks["gpt2"].notes)


def test_a_recipe_that_no_rate_trains_is_unusable(tmp_path: Path) -> None:
    found, runner = check(lambda _: None, tmp_path)
    assert found.unusable.keys() == {"gpt2"} and "loss 9 after 5 updates" in found.unusable["gpt2"]
    assert min(t.lr_factor for t in runner.ran) == 1 / 16  # it was given that chance


def test_every_recipe_on_its_own_and_counted_ones_not_at_all(tmp_path: Path) -> None:
    trials = [*SIZES, *(size(t.parameters or 0, "lstm") for t in SIZES[:2]), Trial("ngram", None, HORIZONS, "/nowhere", "f")]
    found, runner = check(lambda t: bowl(2.0 if t.recipe == "lstm" else 1.0)(t), tmp_path, trials)
    assert {name: c.at(100_000) for name, c in found.checks.items()} == {"gpt2": 1.0, "lstm": 2.0}
    assert {t.parameters for t in runner.ran if t.recipe == "lstm"} == {
        100_000
    }  # of two sizes the second-largest is the smallest
    assert "ngram" not in {t.recipe for t in runner.ran}


def test_trials_that_failed_do_not_decide(tmp_path: Path) -> None:
    class Failing(Known):
        def run(self, trials: Iterable[Trial], folder: str | Path) -> Generator[Result]:
            for result in super().run(trials, folder):
                large = result.trial.parameters == 400_000
                yield Result(result.trial, "failed", "not enough memory") if large else result

    found = pilot(SIZES, Failing(bowl(2.0)), tmp_path, seconds=lambda t: t.parameters or 0)
    assert found.checks["gpt2"].factors == {100_000: 2.0}  # by the smallest size alone
    assert {r["status"] for r in found.checks["gpt2"].rows} == {"done", "failed"}


def test_a_time_that_is_too_short_is_shared(tmp_path: Path) -> None:
    """Six trials of two recipes end: each has had its three factors at the smallest size, and none another."""

    class Short(Known):
        left = 6

        def run(self, wanted: Iterable[Trial], folder: str | Path) -> Generator[Result]:
            for result in super().run(wanted, folder):
                if self.left == 0:
                    return
                self.left -= 1
                yield result

    trials = [*SIZES, *(size(10 * (t.parameters or 0), "llama") for t in SIZES)]
    found = pilot(trials, Short(bowl(2.0)), tmp_path, seconds=lambda t: t.parameters or 0)
    assert {name: c.factors for name, c in found.checks.items()} == {"gpt2": {100_000: 2.0}, "llama": {1_000_000: 2.0}}
    nothing = pilot(trials, Short(lambda _: 2.0), tmp_path, seconds=lambda t: 1, deadline=0.0)
    assert all(c.usable and "not checked" in c.notes[0] and c.at(5) == 1.0 for c in nothing.checks.values())


def test_a_real_pilot_is_kept(corpus: Dataset, tmp_path: Path) -> None:
    """Real trials in this process; the second time everything is read from disk."""
    trials = [
        Trial(
            *("gpt2", None, (3840, 7680), str(corpus.root), corpus.fingerprint, 32, 8),
            dtype="fp32",
            eval_tokens=1024,
            overrides=(f"dim={dim}", "depth=1", "heads=2"),
        )
        for dim in (8, 16, 32)
    ]

    class Here:
        name, workers = "here", 1

        def run(self, trials: Iterable[Trial], folder: str | Path) -> Generator[Result]:
            yield from (run_trial(t, folder) for t in trials)

    found = pilot(trials, Here(), tmp_path)
    assert found.checks["gpt2"].usable and found.noise > 0
    assert all(r["status"] == "done" and r["bpb"] > 0 for r in found.checks["gpt2"].rows)
    runner = Known(lambda _: None)
    assert pilot(trials, runner, tmp_path) == found and not runner.ran
