"""Measuring a machine, and what is made of it."""

from __future__ import annotations

import json
import os
import random
import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from genus.plan.branches import branch
from genus.plan.machine import cache, costs
from genus.plan.machine import calibrate as calibrating
from genus.plan.machine.cache import cache_file, cache_folder, cached, keep
from genus.plan.machine.calibrate import calibrate, measure
from genus.plan.machine.cost import Cost, affordable
from genus.plan.machine.crew import Crew
from genus.plan.machine.measured import Calibration, Setting
from genus.plan.machine.model import Cell, CountCell, CountCost, MachineCost, TimeModel, cost_from_json
from genus.prepare import prepare
from genus.prepare.dataset import Dataset

CEILING, CONTEXT, VOCAB = 2e11, 128, 512


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder = tmp_path_factory.mktemp("corpus")
    rng = random.Random(5)
    words = ["river", "stone", "under", "bright", "water", "falls", "over", "old", "mill"]
    text = "".join(" ".join(rng.choices(words, k=30)) + ".\n" for _ in range(600))
    (folder / "text.txt").write_text(text, encoding="utf-8")
    prepare([folder / "text.txt"], folder / "data", tokenizer="bytes", split_documents="line")
    return Dataset.open(folder / "data")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def machine(noise: float = 0.0, seed: int = 0) -> list[Cell]:
    """Cells of a machine that multiplies at half the ceiling and takes 100 microseconds a layer and update."""
    rng = np.random.default_rng(seed)
    cells = []
    for wish in (2e5, 1e6, 5e6):
        for rows in (8, 32):
            recipe = costs.sized("gpt2", int(wish), VOCAB, CONTEXT, rows)
            forward, layers = recipe.model.flops(0, CONTEXT), costs.sublayers(recipe.model)
            seconds = 3 * forward * rows * CONTEXT / (CEILING / 2) + 1e-4 * layers
            seconds *= 1 + noise * rng.standard_normal()
            memory = costs.training_memory(recipe, rows)
            cells.append(
                Cell(
                    **vars(costs.parameters(recipe.model)),
                    forward=forward,
                    layers=layers,
                    numbers=costs.activations(recipe.model, CONTEXT),
                    rows=rows,
                    context=CONTEXT,
                    micro=rows,
                    fixed=memory.fixed,
                    moving=memory.moving,
                    tokens_per_s=rows * CONTEXT / seconds,
                    spread=0.01,
                    busy=1.0,
                    base=10**8,
                    peak=10**8 + memory.fixed + int(1.5 * memory.moving),
                    evaluation=0.4 * seconds / rows / CONTEXT,
                    decode=2e-5 * layers + 1e-10 * costs.decoding(recipe, CONTEXT, 4).read,
                    read=costs.decoding(recipe, CONTEXT, 4).read,
                )
            )
    return cells


def calibration(**changes: Any) -> Calibration:
    known: dict[str, Any] = {"name": "gpt", "recipe": "gpt2", "kind": "descended", "machine": {}, "threads": 1, "processes": 1}
    known |= {"vocab": VOCAB, "context": CONTEXT, "dtype": "bf16", "tokens": 10**6, "ceiling": CEILING, "startup": 2.0}
    return Calibration(**known | {"cells": tuple(machine())} | changes)


def gpt_cost(**options: Any) -> MachineCost:
    rungs = costs.ladder("gpt2", VOCAB, CONTEXT, 1e5, 2e7, 7)
    cost = calibration().cost(rungs, **options)
    assert isinstance(cost, MachineCost)
    return cost


def test_the_time_model_finds_what_a_step_is_made_of() -> None:
    model = TimeModel.fit(machine(), CEILING)
    assert model.terms == ("operations", "layers")
    assert model.values == pytest.approx((1 / CEILING, 1e-4), rel=1e-6)  # beside what the ceiling takes
    assert model.worst < 1e-6
    noisy = TimeModel.fit(machine(noise=0.05), CEILING)
    assert 0.01 < noisy.error < 0.15 and noisy.error <= noisy.worst


def test_nothing_is_faster_than_the_ceiling() -> None:
    """However small what was measured, a large model is not predicted to multiply faster than the machine can."""
    small = [replace(c, tokens_per_s=1e4) for c in machine()[:3]]
    cost = replace(gpt_cost(), time=TimeModel.fit(small, CEILING))
    assert 3 * cost.ladder.at(1e9, "total")["forward"] * cost.tokens_per_s(1e9) <= CEILING * (1 + 1e-9)


def test_one_size_gives_a_model_without_an_error() -> None:
    model = TimeModel.fit(machine()[:2], CEILING)
    assert model.terms == ("operations", "layers") and np.isnan(model.error)


def test_three_cells_are_better_than_a_proportion() -> None:
    """A hurried measurement: two batches of the smallest size, one of a larger one."""
    cells = machine()
    model = TimeModel.fit([*cells[:2], cells[4]], CEILING)
    assert model.terms == ("operations", "tokens", "layers")
    assert model.of(cells[5]) == pytest.approx(cells[5].update, rel=0.05)


def test_what_is_measured_next() -> None:
    """The larger sizes take about the time that is left; in a hurry there is one, at the smaller batch."""
    (smallest,) = costs.ladder("gpt2", VOCAB, CONTEXT, 1e5, 1e5, 1)
    for seconds in (1.0, 10.0, 1000.0):
        (middle, batches, _), (top, _, last) = calibrating._larger(calibration(), smallest, 0.01, seconds, 10**7, [8, 32])
        assert smallest.wish < middle < top <= 10**7 and batches == [8, 32] and last == 1.0
        forward = costs.sized("gpt2", top, VOCAB, CONTEXT).model.flops(0, CONTEXT)
        assert 4 * 0.01 * forward / smallest.forward <= 0.5 * seconds
    assert top == 10**7
    ((top, batches, _),) = calibrating._larger(calibration(), smallest, 0.4, -3.0, 10**7, [8, 32])
    assert top > 1.5 * smallest.wish and batches == [8]
    assert calibrating._larger(calibration(), smallest, 100.0, 1.0, 10**7, [8, 32]) == []


def test_a_cost_is_what_its_protocol_asks_for() -> None:
    cost = gpt_cost()
    assert isinstance(cost, Cost)
    count = len(cost.sizes)
    assert count >= 5 and (np.diff(cost.sizes) > 0).all()
    params, tokens = cost.sizes[:, None], np.array([1e5, 1e6, 1e7])
    seconds = cost.seconds(params, tokens)
    assert seconds.shape == (count, 3) and (np.diff(seconds, axis=0) > 0).all() and (np.diff(seconds, axis=1) > 0).all()
    assert cost.flops(params, tokens).shape == (count, 3) and cost.memory(cost.sizes).shape == (count,)
    assert (np.diff(cost.memory(cost.sizes)) > 0).all()
    assert (np.diff(cost.decode_seconds(cost.sizes)[2:]) > 0).all()  # a narrower model may have the more layers
    spent = cost.seconds(cost.sizes, affordable(cost, cost.sizes, 3600.0))
    assert spent == pytest.approx(3600, rel=1e-6)


def test_prices_of_a_rung_are_those_of_its_shape() -> None:
    rungs = costs.ladder("gpt2", VOCAB, CONTEXT, 1e5, 2e7, 7)
    cost = gpt_cost(eval_tokens=0)
    for r in rungs:
        at = (r.total, 10**6)
        assert cost.flops(*at) == pytest.approx(r.training * 10**6)
        assert cost.memory(r.total) == pytest.approx(10**8 + r.memory.fixed + 1.5 * r.memory.moving)
        update = r.training * 32 * CONTEXT / (CEILING / 2) + 1e-4 * costs.sublayers(r.recipe.model)
        assert cost.seconds(*at) == pytest.approx(update * 10**6 / (32 * CONTEXT), rel=1e-6)
        assert cost.decode_seconds(r.total) == pytest.approx(
            2e-5 * costs.sublayers(r.recipe.model) + 1e-10 * costs.decoding(r.recipe, CONTEXT, 4).read, rel=1e-6
        )


def test_a_cost_speaks_every_definition_of_size() -> None:
    rungs = costs.ladder("gpt2", VOCAB, CONTEXT, 1e5, 2e7, 7)
    total = gpt_cost()
    for definition in costs.DEFINITIONS:
        other = total.counted_as(definition)
        assert other.sizes.tolist() == [r.count(definition) for r in rungs]
        assert other.seconds(other.sizes, 1e6) == pytest.approx(total.seconds(total.sizes, 1e6))
    between = float(np.sqrt(total.sizes[2] * total.sizes[3]))
    assert total.seconds(total.sizes[2], 1e6) < total.seconds(between, 1e6) < total.seconds(total.sizes[3], 1e6)


def test_evaluations_take_their_share() -> None:
    plain, often = gpt_cost(eval_tokens=0), gpt_cost(eval_tokens=32768, eval_every=60.0)
    size = float(plain.sizes[3])
    per_token = 1 / float(plain.tokens_per_s(size))
    training = float(plain.seconds(size, 1e7))
    once = 0.4 * 32768 * per_token
    assert float(often.seconds(size, 1e7)) == pytest.approx(training + once * (2 + training / 60), rel=1e-6)


def test_a_cost_is_json() -> None:
    cost = gpt_cost(definition="effective", rows=16)
    again = cost_from_json(json.loads(json.dumps(cost.to_json())))
    assert isinstance(again, MachineCost) and again.rows == 16
    assert again.seconds(1e6, 1e6) == cost.seconds(1e6, 1e6) and again.decode_seconds(1e6) == cost.decode_seconds(1e6)
    count = CountCost.fit(counts(), 10**6, 2**30, 1e-3, 2.0)
    assert cost_from_json(json.loads(json.dumps(count.to_json()))) == count


def counts() -> list[CountCell]:
    return [CountCell(n, 0.05 + 2e-6 * n, 0.0, n // 2, 10**8, 10**8 + 100 * n) for n in (20_000, 80_000, 320_000)]


def test_counting_costs_a_line_up_to_the_end_of_the_corpus() -> None:
    cost = CountCost.fit(counts(), 10**6, 2**30, 1e-3, 2.0)
    assert isinstance(cost, Cost)
    assert (cost.fixed, cost.each) == pytest.approx((0.05, 2e-6)) and cost.worst < 1e-6
    assert cost.sizes.tolist() == pytest.approx([5e5])
    assert cost.seconds(cost.sizes, 10**6) == pytest.approx(2.05)
    assert np.isinf(cost.seconds(cost.sizes, 1.1e6)).all() and np.isinf(cost.flops(cost.sizes, 1.1e6)).all()
    assert affordable(cost, cost.sizes, 3600.0) == pytest.approx(1e6, rel=1e-6)
    assert cost.memory(cost.sizes) == pytest.approx(2e8)
    bounded = CountCost.fit(counts(), 10**9, 2**30, 1e-3, 2.0)
    assert bounded.memory(1.0) == 10**8 + 2**30  # it sorts on disk from there


def test_what_a_busy_machine_is_told() -> None:
    cells = machine()
    quiet = calibrating.warnings(calibration())
    assert quiet == ()
    shaken = calibration(cells=(*cells[:5], replace(cells[5], spread=0.5)))
    assert "took up to 100% longer a moment later" in calibrating.warnings(shaken)[0]
    starved = calibration(cells=(*cells[:5], replace(cells[5], busy=0.4)))
    assert "only 40% of its time" in calibrating.warnings(starved)[0]
    several = replace(starved, threads=2)  # whose processor rests where one thread waits for the other
    assert "only 40% of its time" in calibrating.warnings(several)[0]
    assert not calibrating.warnings(replace(several, cells=(*cells[:5], replace(cells[5], busy=0.7))))
    assert "one size only" in calibrating.warnings(calibration(cells=tuple(cells[:2])))[0]


def test_a_table_for_people() -> None:
    text = calibration().table()
    assert "gpt (gpt2): 1 process of 1 thread, bf16, context 128" in text
    assert text.count("tokens/s  model") == 6 and "terms: operations, layers; a size left out: mean error 0.0%" in text


def test_the_cache_knows_everything_a_calibration_depends_on(data: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    gpt = branch("gpt")
    files = {cache_file(gpt, data, s) for s in (Setting(), Setting(threads=2), Setting(processes=2), Setting(context=64))}
    files |= {cache_file(gpt, data, Setting(batch=8)), cache_file(branch("llama"), data, Setting())}
    monkeypatch.setattr(cache, "machine", lambda: {"device": "another"})
    files.add(cache_file(gpt, data, Setting()))
    assert len(files) == 7
    assert all(f.is_relative_to(cache_folder()) for f in files)
    other = branch("gpt2")
    assert cache_file(other, data, Setting()) == cache_file(gpt, data, Setting())


def test_a_calibration_is_found_again(data: Dataset) -> None:
    gpt, said = branch("gpt"), []
    assert cached(gpt, data, 30, Setting()) is None
    file = cache_file(gpt, data, Setting())
    keep(file, calibration(seconds=25.0), said.append)
    assert cached(gpt, data, 1000, Setting()) == calibration(seconds=25.0)
    assert measure("gpt2", data, say=said.append).name == "gpt2"  # without measuring
    assert said == [f"gpt2: measured before ({file})"]
    keep(file, calibration(seconds=5.0), said.append)
    assert cached(gpt, data, 1000, Setting()) is None and cached(gpt, data, 8, Setting()) is not None  # hurried
    keep(file, calibration(seconds=25.0, warnings=("busy",)), said.append)
    assert cached(gpt, data, 8, Setting()) is not None
    os.utime(file, (time.time() - 7200,) * 2)  # disturbed two hours ago
    assert cached(gpt, data, 8, Setting()) is None
    file.write_text("{")
    assert cached(gpt, data, 8, Setting()) is None


def test_a_cache_that_cannot_be_written(data: Dataset, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where a folder should be")
    said: list[str] = []
    keep(cache_file(branch("gpt"), data, Setting()), calibration(), said.append)
    assert "could not be kept" in said[0]


def test_a_real_measurement(data: Dataset) -> None:
    """A process of its own, two batches of one size; its numbers fit together."""
    found = measure("rnn", data, 1.0, Setting(context=64), low=20_000, high=20_000, cache=False)
    assert [c.rows for c in found.cells] == [8, 32] and found.kind == "descended"
    recipe = costs.sized("rnn", 20_000, data.vocab_size, 64, 32)
    for cell in found.cells:
        assert cell.total == recipe.parameters_total and cell.forward == recipe.model.flops(0, 64)
        assert cell.tokens_per_s > 100 and 0 <= cell.spread < 1 and 0 < cell.busy < 1.2
        assert cell.peak is not None and 10**8 < cell.base < cell.peak < 4 * 10**9
        assert cell.evaluation is not None and cell.evaluation > 0 and cell.decode > 0
        assert 3 * cell.forward * cell.tokens_per_s < found.ceiling
    assert found.startup > 0.5 and "one size only" in found.warnings[-1]
    assert Calibration.from_json(json.loads(json.dumps(found.to_json()))) == found


def test_counting_is_measured_too(data: Dataset) -> None:
    """Two processes at once, and several branches through one door."""
    setting = Setting(processes=2)
    found = calibrate(["ngram"], data, 2.0, setting)["ngram"]
    tokens = [c.tokens for c in found.counts]
    assert tokens[-1] == data.split("train").tokens and all(b >= 4 * a for a, b in pairwise(tokens))
    assert all(c.seconds > 0 and c.parameters > 0 and c.peak > c.base for c in found.counts)
    cost = found.cost()
    assert isinstance(cost, CountCost) and cost.decode > 0 and cost.sizes[0] == found.counts[-1].parameters
    assert "processes" in found.table()


def test_a_measurement_that_fails_says_why(data: Dataset, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no branch 'gtp'; did you mean 'gpt'"):
        measure("gtp", data)
    task = {"data": str(tmp_path / "none"), "recipe": "rnn", "counted": False, "context": 64, "dtype": "auto", "threads": 1}
    with pytest.raises(ValueError, match=r"measuring rnn, the start, failed: .*none"):
        Crew({**task, "batches": [8]}, 1)
