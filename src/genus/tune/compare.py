"""Compare: every way of using the labels, learnt from the same rows and judged on the same rows, in one table.

Examples in a prompt (no update), a linear model on frozen vectors, LoRA, full tuning, the same model with fresh weights, and the
baselines that need no model; the last two are always there. What is done is kept in the run's folder `compare/`, so that an
interrupted comparison goes on.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from genus.evaluate.scoring import how as scored
from genus.parts.task_head import TaskHead, Vectors
from genus.prepare.records import Record
from genus.run import Run, write_atomic
from genus.train.machine import compute_dtype, default_device
from genus.tune import baselines, rate, trial
from genus.tune.base import Base
from genus.tune.features import features, usual_pool
from genus.tune.labels import Labels
from genus.tune.linear import OnVectors, require
from genus.tune.methods import METHODS
from genus.tune.options import TuneOptions
from genus.tune.prompting import Prompt, Template, balanced
from genus.tune.results import Row, merge
from genus.tune.splits import Split
from genus.tune.task import Say, Task
from genus.tune.trial import PREDICTIONS, Held, Trial
from genus.tune.unsuitable import Unsuitable

FOLDER, ROW, DONE = "compare", "row.json", "done"
TUNED = ("full", "lora")  # methods that are compared
FRESH = "fresh weights, from the labels alone"
SHOTS = 16  # examples in a prompt, where they fit
ASKED = 1000  # rows that a prompt is asked about at most
SAMPLE = 200_000  # rows that linear models learn from at most

Predicted = Iterator[tuple[Row, list[Any], Sequence[int] | None]]


@dataclass(frozen=True)
class Way:
    """One way of using the labels: its line of the table, and where its predictions for each split are."""

    row: Row
    folders: tuple[Path, ...]


@dataclass(frozen=True)
class Comparison:
    """What is compared, and with what.

    Attributes:
        parts: the splits. method: the one that the run itself uses; its fits are in the run's folder `fits`.
    """

    run: Run
    base: Base
    told: Labels
    held: Held
    parts: Sequence[Split]
    options: TuneOptions
    say: Say

    def ways(self) -> list[Way]:
        """Every other way than the run's own, measured."""
        wanted: list[tuple[str, Callable[[], list[Way]]]] = [
            ("a prompt", self._prompted),
            ("frozen vectors", self._frozen),
            *((f"{name} tuning", lambda name=name: [self._tuned(name)]) for name in TUNED if name != self.options.method),  # type: ignore[misc]
            ("fresh weights", lambda: self._fresh(self.parts)),
            ("baselines", self._baselines),
        ]
        return self._measured(wanted)

    def always(self) -> list[Way]:
        """What every table has: fresh weights, fitted once, and what needs no model."""
        quiet = replace(self, say=lambda _: None)  # baselines take no time to speak of
        return self._measured([("fresh weights", lambda: self._fresh(self.parts[:1])), ("baselines", quiet._baselines)])

    def _measured(self, wanted: Sequence[tuple[str, Callable[[], list[Way]]]]) -> list[Way]:
        """One that cannot be used here is left out, and the reason said."""
        found: list[Way] = []
        most = max(len(part.train) + len(part.valid) for part in self.parts)
        if most > SAMPLE:
            self.say(f"compare: linear models learn from a sample of the {most:,} rows, at most {SAMPLE:,}")
        for name, measure in wanted:
            try:
                found += measure()
            except Unsuitable as error:
                self.say(f"compare: without {name}: {error}")
        return found

    # ---- with training: the same fits as the run's own

    def _tuned(self, name: str) -> Way:
        options = replace(self.options, method=name)
        how, group = METHODS[name](options), f"{FOLDER}/{_slug(name)}"
        options = rate.tried(self.base, self.told.task, self.held, self.parts[0], how, options, self.run, self.say, group)
        return self._fitted(f"{name} tuning", self.base, options, group, self.parts)

    def _fresh(self, parts: Sequence[Split]) -> list[Way]:
        """Without the rate that the user gave, which is one for weights that have learnt."""
        if self.base.weights is None or not self.told.task.alone:
            return []
        base = replace(self.base, kind="recipe", path=None, weights=None, task=None)
        options = replace(self.options, method="full", lr=None)
        return [self._fitted(FRESH, base, options, f"{FOLDER}/{_slug(FRESH)}", parts)]

    def _fitted(self, name: str, base: Base, options: TuneOptions, group: str, parts: Sequence[Split]) -> Way:
        task, how, trials = self.told.task, METHODS[options.method](options), list[Trial]()
        for part in parts:
            trials.append(trial.measure(base, task, self.held, part, how, options, self.run, group, quiet=True))
        row = trial.row(name, trials)
        row = replace(row, memory=memory(base, row.trainable))
        self._told(row)
        return Way(row, tuple(self.run.path / group / trial.folder_name(part) for part in parts))

    # ---- without

    def _frozen(self) -> list[Way]:
        require()
        task, base, options = self.told.task, self.base, self.options
        if base.weights is None or not _simple(task, self.told.train[0]):
            return []
        if self._is_done("frozen"):
            return self._learnt("frozen", lambda _: iter(()))
        begin = time.perf_counter()
        model = base.model(None, options.seed).to(default_device()).eval()
        tested = [] if self.told.test is None else list(self.told.test)
        texts: list[Any] = [t[0] if len(t := task.texts(row)) == 1 else t for row in [*self.told.train, *tested]]
        dtype = compute_dtype(options.dtype, default_device())
        vectors = features(model, base.tokenizer, texts, limit=base.limit(options), dtype=dtype)
        reading = (time.perf_counter() - begin) / len(self.parts)
        pool = usual_pool(base.recipe.model)

        def learn(part: Split) -> Predicted:
            begin = time.perf_counter()
            numbers = _sampled(part.train + part.valid)
            aims = [task.target(self.told.train[i]) for i in numbers]
            linear = OnVectors(isinstance(aims[0], float), part.seed).fit(list(vectors[numbers]), aims)
            judged = vectors[len(self.told.train) :] if self.told.test is not None else vectors[list(part.test)]
            found = linear.predict(list(judged))
            predictions = found.tolist() if linear.numbers else baselines.shares(task, linear.classes, found)
            seconds = time.perf_counter() - begin + reading
            name = "frozen vectors, linear read-out"
            yield (
                Row(name, (), float(len(numbers)), seconds, linear.parameters, f"{pool} of the last layer; {linear}"),
                predictions,
                None,
            )

        return self._learnt("frozen", learn)

    def _prompted(self) -> list[Way]:
        task, base = self.told.task, self.base
        if base.weights is None or not (task.labels_of() and isinstance(task.target(self.told.train[0]), str)):
            return []
        if isinstance(base.recipe.model.head, TaskHead | Vectors):
            raise Unsuitable("the base has no read-out of its vocabulary")
        try:
            scored(base.recipe.model)
        except ValueError as error:
            raise Unsuitable(str(error)) from error
        strange = next((name for name in task.columns if set(name) & set("{}:!")), None)
        if strange is not None:
            raise Unsuitable(f"the column {strange!r} cannot stand in a prompt's braces; rename it")
        template = Template.infer(task.columns[:-1], task.columns[-1])
        template.check(task.columns)
        model = base.model(None, self.options.seed).to(default_device()).eval()
        limit = base.recipe.model.context or base.recipe.training.context

        def ask(part: Split) -> Predicted:
            begin = time.perf_counter()
            numbers = part.train + part.valid
            chosen = balanced([task.target(self.told.train[i]) for i in numbers], SHOTS, part.seed)
            examples = tuple(_named(task, self.told.train[numbers[i]]) for i in chosen)
            judged = self._judged(part)
            asked = range(0, len(judged), -(-len(judged) // ASKED))
            prompt = Prompt(template, task.labels_of(), examples, limit)
            if part is self.parts[0]:
                self.say(f"prompt: {template.text!r}, {len(examples)} examples")
            answers = prompt.answer(model, base.tokenizer, [_named(task, judged[i]) for i in asked])
            notes = [repr(template.text), *answers.notes]
            if len(asked) < len(judged):
                notes.append(f"asked about {len(asked):,} of {len(judged):,} rows")
            seconds = time.perf_counter() - begin
            for name, found in (("", answers.plain), (", calibrated", answers.calibrated)):
                row = Row(f"{SHOTS} examples in the prompt{name}", (), float(len(examples)), seconds, 0, "; ".join(notes))
                yield replace(row, memory=memory(base, 0)), found.tolist(), asked

        return self._learnt("prompt", ask)

    def _baselines(self) -> list[Way]:
        def learn(part: Split) -> Predicted:
            train = [self.told.train[i] for i in _sampled(part.train + part.valid)]
            for row, predictions in baselines.predicted(self.told.task, train, self._judged(part), part.seed):
                yield row, predictions, None

        return self._learnt("baselines", learn)

    # ---- what was measured

    def _judged(self, part: Split) -> Sequence[Record]:
        return self.told.test if self.told.test is not None else [self.told.train[i] for i in part.test]

    def _folder(self, name: str, part: Split) -> Path:
        return self.run.path / FOLDER / name / trial.folder_name(part)

    def _is_done(self, name: str) -> bool:
        return all((self._folder(name, part) / DONE).is_file() for part in self.parts)

    def _learnt(self, name: str, learn: Callable[[Split], Predicted]) -> list[Way]:
        """Measure each split, or read what was measured; one way for each name that `learn` gives."""
        task = self.told.task
        found: dict[str, list[tuple[Row, Path]]] = {}
        for part in self.parts:
            folder = self._folder(name, part)
            if not (folder / DONE).is_file():
                rows = self._judged(part)
                places = self.held.test_places if self.told.test is not None else [self.held.places[i] for i in part.test]
                for number, (row, predictions, asked) in enumerate(learn(part)):
                    own = folder / str(number)
                    own.mkdir(parents=True, exist_ok=True)
                    seen = range(len(rows)) if asked is None else asked
                    mine, where = [rows[i] for i in seen], [places[i] for i in seen]
                    row = replace(row, scores=(task.score(predictions, mine),))
                    write_atomic(own / PREDICTIONS, trial.lines(task, mine, predictions, where, part.name))
                    write_atomic(own / ROW, json.dumps(row.to_json(), ensure_ascii=False) + "\n")
                folder.mkdir(parents=True, exist_ok=True)  # a task without any has none made
                write_atomic(folder / DONE, "")
            for own in sorted(folder.glob(f"*/{ROW}")):
                row = Row.from_json(json.loads(own.read_text(encoding="utf-8")))
                found.setdefault(row.name, []).append((row, own.parent))
        ways = [Way(merge(row for row, _ in same)[0], tuple(place for _, place in same)) for same in found.values()]
        for way in ways:
            self._told(way.row)
        return ways

    def _told(self, row: Row) -> None:
        primary = self.told.task.primary
        begin = "compare" if self.options.compare else "beside it"
        self.say(f"{begin}: {row.name}: {primary} {row.mean(primary):.3f}, {row.seconds:.1f} s each")


def _simple(task: Task, row: Record) -> bool:
    """Whether whole texts have classes or numbers."""
    target = task.target(row)
    return isinstance(target, float) or (isinstance(target, str) and bool(task.labels_of()))


def _named(task: Task, row: Record) -> Record:
    """A row with its label as the task writes it."""
    return row | {task.columns[-1]: task.target(row)}


def _sampled(numbers: Sequence[int]) -> list[int]:
    return list(numbers[:: -(-len(numbers) // SAMPLE)])


def _slug(name: str) -> str:
    return "-".join("".join(c if c.isalnum() else " " for c in name.lower()).split())


def memory(base: Base, learnt: int) -> float:
    """Bytes of all weights, and of the gradient and AdamW's two averages of those that learn; activations come on top."""
    return 4.0 * base.recipe.parameters_total + 12.0 * learnt


# ---- which is best, and whether that is more than noise


def units(folder: Path) -> dict[str, float]:
    """How well each row was answered, by its place: 1 or 0 (class, text), the share of right tags, or minus the error squared."""
    found = {}
    for line in (folder / PREDICTIONS).read_text(encoding="utf-8").splitlines():
        record = json.loads(line)
        if "prediction" in record:
            found[record["place"]] = _unit(record["prediction"], record["label"])
    return found


def _unit(said: Any, right: Any) -> float:
    if isinstance(right, list):
        return float(np.mean([a == b for a, b in zip(said, right, strict=False)])) if right else 1.0
    if isinstance(right, float) and isinstance(said, int | float):
        return -((said - right) ** 2)
    return float(said == right)


def overlap(told: Labels, parts: Sequence[Split]) -> float:
    """Rows that judge for each row that is learnt from; 0 with a test set of its own."""
    if told.test is not None:
        return 0.0
    return sum(len(p.test) for p in parts) / max(1, sum(len(p.train) + len(p.valid) for p in parts))


def verdict(primary: str, ways: Sequence[Way], overlap: float) -> str:
    """Which way is best, and whether the difference to the next is larger than the noise.

    Two intervals of 95 %: over the rows that judge (bootstrap of the paired differences) and, from three fits on, over fits
    (paired t). Both must leave out zero.

    Args:
        ways: that of the run first. overlap: rows that judge for each row that is learnt from, where splits are cut anew from the
            same rows, which makes fits look more independent than they are (Nadeau & Bengio 2003, section 3); 0 with a test set
            of its own.
    """
    order = sorted((w for w in ways if w.row.values(primary)), key=lambda w: -w.row.mean(primary))
    if len(order) < 2:
        return ""
    best, other = order[:2]
    gap = best.row.mean(primary) - other.row.mean(primary)
    told = f"best: {best.row.name}, {primary} {best.row.mean(primary):.3f}; next: {other.row.name}, {other.row.mean(primary):.3f}"
    intervals = {"rows": over_rows(best, other), "fits": over_fits(best.row, other.row, primary, overlap)}
    known = {k: v for k, v in intervals.items() if v is not None}
    if not known:
        return f"{told}. Too little was measured to tell noise from a difference of {gap:.3f}"
    sure = "larger than" if all(low > 0 for low, _ in known.values()) else "not larger than"
    shown = "; ".join(f"95 % over {k} {low:+.3f} to {high:+.3f}" for k, (low, high) in known.items())
    kept = "" if best is ways[0] else f". The run keeps {ways[0].row.name}"
    return f"{told}. The difference of {gap:.3f} is {sure} the noise ({shown}){kept}"


def over_rows(a: Way, b: Way) -> tuple[float, float] | None:
    """95 % interval of the mean paired difference when the rows that judge are drawn again."""
    from genus.evaluate.interval import bootstrap

    sums: dict[str, list[float]] = {}
    for first, second in zip(a.folders, b.folders):
        mine, theirs = units(first), units(second)
        for place in mine.keys() & theirs.keys():
            total = sums.setdefault(place, [0.0, 0.0])
            total[0] += mine[place] - theirs[place]
            total[1] += 1.0
    values = np.array([sums[place] for place in sorted(sums)])
    return bootstrap(values[:, 0], values[:, 1]) if len(values) > 1 else None


def over_fits(a: Row, b: Row, primary: str, overlap: float) -> tuple[float, float] | None:
    """95 % interval of the mean paired difference over fits; None with fewer than three."""
    from scipy.stats import t

    first, second = a.values(primary), b.values(primary)
    if len(first) != len(second) or len(first) < 3:
        return None
    gaps = np.array(first) - np.array(second)
    half = t.ppf(0.975, len(gaps) - 1) * np.sqrt((1 / len(gaps) + overlap) * gaps.var(ddof=1))
    return float(gaps.mean() - half), float(gaps.mean() + half)
