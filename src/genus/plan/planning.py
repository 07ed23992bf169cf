"""From data and a budget to a plan: calibrate, design, pilot, sweep, decide, write down.

The plan's folder holds `trials/` (every small run, kept by its content), `begun.json` (what was settled and designed, so that the
same command after a kill asks for the same small runs), and at the end `plan.json` and `report.html`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from genus.plan import page
from genus.plan.begun import Begun, wish
from genus.plan.branches import branches
from genus.plan.contender import ENOUGH, Contender
from genus.plan.decide import Decision, Situation, decide, limits
from genus.plan.design.cells import Cell, ShareTooSmall, design
from genus.plan.design.identify import identifiability
from genus.plan.design.information import FEWEST_SIZES
from genus.plan.frame import CALIBRATION, PILOT, Frame, settle
from genus.plan.frontier import best
from genus.plan.further import further
from genus.plan.machine.cost import Paced, trajectory_tokens
from genus.plan.options import PlanOptions
from genus.plan.prices import priced
from genus.plan.qualify import PART, check, qualify
from genus.plan.record import recorded
from genus.plan.store import FILE, Plan
from genus.plan.trials import runners
from genus.plan.trials.pilot import pilot
from genus.plan.trials.runners import Runner
from genus.plan.trials.sweep import sweep
from genus.plan.trials.trial import Result, Trial
from genus.prepare.dataset import Dataset
from genus.report.chart import clock, short

TRIALS = "trials"

Say = Callable[[str], None]


def plan(data: str | Path, seconds: float, out: str | Path, options: PlanOptions | None = None, say: Say = print) -> Plan:
    """Find out which model the budget is best spent on, and write it down.

    Args:
        data: a prepared folder. seconds: the budget, small runs included. out: the folder to make, or to go on with.
        say: told what is done and found.

    Raises:
        FileExistsError: there is a finished plan already. ValueError: the wishes cannot be met; with what to do.
    """
    options, out, begin = options or PlanOptions(), Path(out), time.monotonic()
    if (out / FILE).is_file():
        raise FileExistsError(f"{out} holds a finished plan; train it with genus train {out}, or choose another -o")
    contestants = branches(options.branches)
    runner = runners.open(options.engine, options.cores)
    check(options.target)
    dataset = Dataset.open(data)
    asked = wish(dataset.fingerprint, seconds, options, [b.recipe for b in contestants])
    begun = Begun.read(out, asked)
    frame = settle(dataset, seconds, options, begun, say)
    out.mkdir(parents=True, exist_ok=True)
    say(
        f"budget: {clock(seconds)}, of which {clock(frame.small)} for small runs ({runner.name}, {runner.workers} at once) "
        f"and {clock(frame.train)} for the run"
    )
    contenders = priced(contestants, frame, CALIBRATION * frame.small, runner.workers, say)
    apart = frame.small / (len(contestants) + 1) if options.base is not None else 0.0
    left = _left(frame, begin) - apart
    if begun is None:
        unfit = qualify(contenders, options.target, dataset.root, out, PART * left, options.seed, say)
        left = _left(frame, begin) - apart
        begun = Begun(frame.ceiling, frame.batch, {}, reasons=unfit)
        begun.first = _designed(contenders, frame, left * (1 - PILOT), runner.workers, begun, say)
        begun.write(out, asked)
    folder = out / TRIALS
    _assign(contenders, begun, begun.first)
    end = time.monotonic() + left
    spent = _piloted(contenders, frame, runner, folder, time.monotonic() + PILOT * left, say)
    if begun.cells is None:
        begun.cells = _designed(contenders, frame, end - time.monotonic() - spent, runner.workers, begun, say)
        begun.write(out, asked)
    _assign(contenders, begun, begun.cells)
    _swept(contenders, frame, runner, folder, end - spent - _stored(contenders, frame, folder) / runner.workers, say)
    if options.base is not None:
        contenders.append(further(options.base, frame, runner, folder, apart, say))
    decision = _decided(contenders, frame)
    made = recorded(contenders, frame, decision, time.monotonic() - begin).write(out)
    page.write(made, out)
    return made


def _left(frame: Frame, begin: float) -> float:
    """Seconds for small runs.

    Raises:
        ValueError: the measurements before them have taken all there were.
    """
    took = time.monotonic() - begin
    if took >= frame.small:
        raise ValueError(
            f"measuring this machine took {clock(took)}, and all small runs together may take {clock(frame.small)}; allow a "
            "larger budget or --share, or fewer branches (the same command again finds the machine measured)"
        )
    return frame.small - took


def _alive(contenders: Iterable[Contender]) -> list[Contender]:
    return [c for c in contenders if c.alive]


def _designed(
    contenders: Sequence[Contender], frame: Frame, seconds: float, workers: int, begun: Begun, say: Say
) -> dict[str, list[Cell]]:
    """Cells for every contender that the time is long enough for. Who gets none, and what cells can tell, goes to `begun`.

    Raises:
        ValueError: it is too short for all of them.
    """
    reasons, told = begun.reasons, begun.identifiability
    reasons |= {c.name: c.reason for c in contenders if not c.alive}
    while alive := [c for c in contenders if c.name not in reasons]:
        costs, targets = {c.name: c.small for c in alive}, {c.name: c.large for c in alive}
        try:
            made = design(costs, seconds, frame.train, cores=workers, rules=frame.rules, targets=targets)
            break
        except ShareTooSmall as error:
            if not error.fits:
                raise
            left_out = {c.name for c in alive} - set(error.fits)
            reasons |= {name: error.reasons.get(name, str(error)) for name in left_out}
            for name in sorted(left_out):
                say(f"{name} is left out: {reasons[name]}")
    else:
        raise ValueError("no branch can be measured: " + "; ".join(f"{name}: {reason}" for name, reason in reasons.items()))
    for c in alive:
        cells = [cell for cell in made.cells if cell.branch == c.name]
        points = [(cell.params, h) for cell in cells for h in cell.horizons]
        line = f"{c.name}: {len(cells)} sizes, {len(points)} points, {clock(sum(cell.seconds for cell in cells))} of a core"
        if outlook := made.outlooks.get(c.name):
            params, tokens = zip(*points)
            judged = identifiability(params, tokens, target=outlook.target)
            told[c.name] = judged.to_json()
            line += f"; at the target expected within {outlook.error:.1%}"
            line += f"; warning: {judged.refused}" if judged.refused else ""
        say(line)
    return {c.name: [cell for cell in made.cells if cell.branch == c.name] for c in alive}


def _assign(contenders: Sequence[Contender], begun: Begun, cells: dict[str, list[Cell]]) -> None:
    """Give every contender its cells."""
    for c in contenders:
        c.cells, c.identifiability = cells.get(c.name, []), begun.identifiability.get(c.name, {})
        if not c.cells and c.alive:
            c.leave("refused", begun.reasons.get(c.name, "no small run was designed for it"))


def _stored(contenders: Iterable[Contender], frame: Frame, folder: Path) -> float:
    """Seconds that stored small runs took, in an attempt that was stopped."""
    stored = (Result.read(t, folder) for c in _alive(contenders) for t in c.trials(frame))
    return sum(r.seconds for r in stored if r is not None)


def _piloted(contenders: Sequence[Contender], frame: Frame, runner: Runner, folder: Path, deadline: float, say: Say) -> float:
    """Learning rates, noise, divergence, and how fast trials really are.

    Returns:
        seconds that the runs of the pilot had taken before, in an attempt that was stopped.
    """
    begin = time.monotonic()
    trials = [t for c in _alive(contenders) if not c.counted for t in c.trials(frame)]
    predicted, results, tell = _seconds(contenders, frame), dict[str, Result](), _telling(say)

    def on_result(result: Result) -> None:
        if result.key not in results:
            results[result.key] = result
            tell(result)

    say("pilot: learning rates, the noise between seeds, divergence")
    checked = pilot(trials, runner, folder, on_result, deadline, predicted)
    for c in _alive(contenders):
        found = checked.checks.get(c.branch.recipe)
        if found is None:
            continue
        for note in found.notes:
            say(note)
        if not found.usable:
            c.leave("failed", found.notes[-1])
        c.check = found
        own = [r for r in results.values() if r.trial.recipe == c.branch.recipe and r.status == "done"]
        if own:
            c.small = Paced(c.small, sum(r.seconds for r in own) / sum(predicted(r.trial) for r in own))
    took = sum(r.seconds for r in results.values()) / runner.workers
    return max(0.0, took - (time.monotonic() - begin))


def _swept(contenders: Sequence[Contender], frame: Frame, runner: Runner, folder: Path, deadline: float, say: Say) -> None:
    """Run the cells, cheapest first, and drop what cannot win any more."""
    by_key = {t.key: c for c in _alive(contenders) for t in c.trials(frame)}
    trials = [t for c in _alive(contenders) for t in c.trials(frame)]
    tell = _telling(say)

    def on_result(result: Result) -> list[str]:
        c = by_key[result.key]
        c.results[result.key] = result
        tell(result)
        if c.enough_sizes and c.points() >= ENOUGH and c.refit():
            _drop(contenders, frame, say)
        return [x.branch.recipe for x in contenders if not x.alive]

    ended = sweep(trials, runner, folder, on_result, deadline, _seconds(contenders, frame))
    if ended.late:
        say(f"{len(ended.late)} small runs were left out: they would have taken longer than their share of the budget")
    for c in _alive(contenders):
        if not c.enough_sizes:
            why = "; ".join(sorted({r.reason for r in c.results.values() if r.reason})) or "the time was too short for more"
            c.leave("failed", f"fewer than {FEWEST_SIZES} of its {len(c.cells)} sizes were measured: {why}")
        elif c.forecast is None and not c.refit():
            c.leave("failed", c.reason)
        if not c.alive:
            c.forecast = None
            say(f"{c.name}: {c.reason}")


def _drop(contenders: Sequence[Contender], frame: Frame, say: Say) -> None:
    """Drop a branch whose whole interval at the budget lies above another's."""
    bands = {}
    situation = Situation(frame.train, float(frame.unique), frame.memory)
    for c in _alive(contenders):
        if c.forecast is not None:
            candidate = c.candidate(frame)
            try:
                band = best(c.surface(frame.unique), c.large, frame.train, **vars(limits(candidate, situation))).band
            except ValueError:
                continue
            bands[c.name] = (float(band.low), float(band.high))
    if not bands:
        return
    leader = min(bands, key=lambda name: bands[name][1])
    for c in _alive(contenders):
        if c.name in bands and bands[c.name][0] > bands[leader][1]:
            low, high = bands[c.name]
            c.leave("dropped", f"{low:.3f} to {high:.3f} at the budget, above all of {leader} ({bands[leader][1]:.3f} at most)")
            say(f"{c.name} dropped: {c.reason}")


def _telling(say: Say) -> Callable[[Result], None]:
    count = 0

    def tell(result: Result) -> None:
        nonlocal count
        count += 1
        figures = ", ".join(f"{p.bpb:.3f} at {short(p.tokens)}" for p in result.points)
        word = "" if result.status == "done" else f" {result.status}: {result.reason}"
        say(f"[{count}] {result.trial.name}: {figures or 'nothing'}, {clock(result.seconds)}{word}")

    return tell


def _seconds(contenders: Sequence[Contender], frame: Frame) -> Callable[[Trial], float]:
    """What a trial should take, by the prices of its branch."""
    by_recipe = {c.branch.recipe: c for c in contenders}

    def predict(trial: Trial) -> float:
        c = by_recipe[trial.recipe]
        if c.counted:
            return float(sum(float(c.small.seconds(c.small.sizes[0], h)) for h in trial.horizons if h <= frame.unique))
        total = next(r.total for r in c.rungs if r.wish == trial.parameters)
        return float(c.small.seconds(total, trajectory_tokens(trial.horizons)))

    return predict


def _decided(contenders: Sequence[Contender], frame: Frame) -> Decision:
    """The decision among all that have a forecast.

    Raises:
        ValueError: none has.
    """
    ready = [c for c in contenders if c.forecast is not None]
    if not any(c.alive for c in ready):
        raise ValueError("no branch could be measured: " + "; ".join(f"{c.name}: {c.reason}" for c in contenders))
    for c in ready:
        c.settle()
    options = frame.options
    situation = Situation(frame.train, float(frame.unique), frame.memory, options.serve, options.price)
    return decide([c.candidate(frame) for c in ready], situation)
