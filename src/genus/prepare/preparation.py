"""One run of `prepare`, once it is clear what to do: the rounds, the decisions between them, the tokenizer, the shards."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path

import numpy as np

from genus.modalities.text import Tokenizer
from genus.prepare import encode, rounds
from genus.prepare import manifest as written
from genus.prepare import tokenizer as making
from genus.prepare.dataset import HELD_OUT, MANIFEST, Dataset
from genus.prepare.engines import Engine, run_stage
from genus.prepare.known import UNEVEN, Known
from genus.prepare.mixture import Mix, copies, mix
from genus.prepare.overlap import overlap
from genus.prepare.pack import pack
from genus.prepare.plain import PIECE_BYTES
from genus.prepare.plan import Plan
from genus.prepare.progress import Progress
from genus.prepare.quarantine import READ, collect
from genus.prepare.sampling import training_sample
from genus.prepare.sources import Found
from genus.prepare.splits import CUT, TRAIN, Assignment, Fractions, assign
from genus.prepare.steps.step import Survey
from genus.prepare.workspace import Workspace
from genus.run import replace_folder, write_atomic


class Preparation:
    """A workspace, a plan, and somewhere to run it. `clean` does the rounds; `run` does everything."""

    def __init__(self, space: Workspace, plan: Plan, found: Found, engine: Engine, progress: Progress, continued: bool) -> None:
        self.space, self.plan, self.found = space, plan, found
        self.engine, self.progress, self.continued = engine, progress, continued
        self.remarks = list(found.remarks)

    def clean(self) -> None:
        """All rounds. What the round before last stored is removed when a round is complete."""
        rounds.forget_loaded()
        for number, this in enumerate(rounds.rounds_of(self.plan.steps)):
            if this.applies is not None:
                self._decide(number, this.applies, this.names[0])
            does = " and ".join(["reading", "cleaning"][number > 0 : 1 + bool(this.names)])
            self._stage(rounds.stage(number), does if number == 0 else f"{does} ({', '.join(this.names)})")
            if number:
                self._forget(number - 1)
            shutil.rmtree(self.space.decision(number), ignore_errors=True)

    def run(self, out: Path, fractions: Fractions, adopted: Tokenizer | None) -> Dataset:
        """Make the folder `out`.

        Raises:
            ValueError: nothing that could be used is left, or what a unit complained of.
        """
        self.clean()
        known = Known.load(self.plan, self._files("npz"))
        funnel = written.cleaning_funnel(self.space, self.plan)
        if not len(known):
            self._nothing_left(funnel)
        self.tell_sources()
        self._tell_pieces(known)
        assignment = assign(
            known.documents, fractions, not self.plan.options["keep_repeats"], whole=self.plan.pairs, seed=self.plan.seed
        )
        training = _training_bytes(known, assignment)
        times, mixed = self._mixture(known, assignment, training)
        self._write_verdicts(known, assignment, times)
        tokenizer = self._tokenizer(known, assignment, times, training, adopted)
        self._stage(encode.STAGE, "tokenizing")
        dtype = encode.dtype_for(tokenizer.vocab_size)
        total = sum(file.stat().st_size for file in self.space.journal.glob("encode-*.tokens"))
        with self.progress.stage("packing", total) as stage:
            splits = pack(self.space, len(self.plan.units), dtype, stage.advance, self.plan.pairs)
        if not splits["train"]["documents"]:
            raise ValueError("every document went to validation or test: lower --validation and --test")
        with self.progress.task("comparing the splits"):
            for name, common in overlap(self.space.folder, splits).items():
                splits[name]["overlap"] = common
        dropped = collect(self.space, self.plan, [*self._round_names(), encode.STAGE])
        self._tell_held_out(dropped)
        decided = written.Decided(known, assignment, times, mixed)
        manifest = written.manifest(self.space, self.plan, self.found, tokenizer, splits, decided, funnel, dropped, self.remarks)
        write_atomic(self.space.folder / MANIFEST, json.dumps(manifest, ensure_ascii=False, indent=1) + "\n")
        self.space.finish(out)
        return Dataset.open(out)

    def _round_names(self) -> list[str]:
        return [rounds.stage(number) for number in range(len(rounds.rounds_of(self.plan.steps)))]

    def _files(self, suffix: str) -> list[Path]:
        """Files of the last round, by unit."""
        last = rounds.last_stage(self.plan.steps)
        return [self.space.file(last, unit, suffix) for unit in range(len(self.plan.units))]

    def _stage(self, stage: str, name: str) -> None:
        sizes = _unit_bytes(self.plan)
        with self.progress.stage(name, sum(sizes)) as bar:
            had = run_stage(self.space, self.plan, stage, self.engine, lambda unit: bar.advance(sizes[unit]))
        if had and self.continued:
            self.progress.note(f"{name}: {had:,} of {len(sizes):,} units were already done")

    def _decide(self, number: int, survey: Survey, name: str) -> None:
        """Let a survey decide on what the round before it observed, unless it has."""
        marker = self.space.decided(number)
        if marker.exists():
            return
        folder = self.space.decision(number)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        with self.progress.task(f"deciding ({name})"):
            facts = survey.decide(rounds.Observations(self.space, self.plan, number - 1), folder, self.plan.seed)
        write_atomic(marker, json.dumps(facts, ensure_ascii=False))

    def _forget(self, number: int) -> None:
        for unit in range(len(self.plan.units)):
            for suffix in ("arrow", "observed"):
                self.space.file(rounds.stage(number), unit, suffix).unlink(missing_ok=True)

    def _nothing_left(self, funnel: list[dict]) -> None:
        collect(self.space, self.plan, self._round_names())
        reasons = sum((Counter(entry["dropped"]) for entry in funnel), Counter())
        told = ", ".join(f"{reason}: {count:,}" for reason, count in reasons.most_common())
        raise ValueError(
            f"no usable document in the {len(self.plan.sources):,} files read ({told or 'all are empty'}); "
            f"see {self.space.folder / 'rejected'} for file and line"
        )

    def tell_sources(self) -> None:
        """Gather what the readers remarked, and how many pairs are of very different lengths."""
        uneven = 0
        last = rounds.last_stage(self.plan.steps)
        for unit in range(len(self.plan.units)):
            self.remarks += self.space.facts(rounds.stage(0), unit)["remarks"]
            uneven += self.space.facts(last, unit).get("uneven", 0)
        if uneven:
            self._remark(
                f"{uneven:,} pair{'s have' if uneven > 1 else ' has'} one side more than {UNEVEN} times as long as the "
                "other; kept, but look whether the two sides correspond"
            )

    def _tell_held_out(self, dropped: Counter[tuple[int, str]]) -> None:
        """Say what steps took out of ready-made validation and test sets, which others may measure themselves on."""
        lost: Counter[str] = Counter()
        for (source, step), count in dropped.items():
            if self.plan.sources[source].split in HELD_OUT and step != READ:
                lost[step] += count
        if lost:
            steps = ", ".join(f"{step} {count:,}" for step, count in lost.most_common())
            self._remark(f"of the ready-made validation and test sets {lost.total():,} documents were dropped: {steps}")

    def _tell_pieces(self, known: Known) -> None:
        """Say which files were too large to be one document."""
        pieces = Counter(known.sources[~known.documents.starts].tolist())
        for index, count in sorted(pieces.items()):
            self._remark(
                f"{self.plan.sources[index].label}: too large for one document, cut at line ends into {count + 1:,} of about "
                f"{PIECE_BYTES >> 20} MB"
            )

    def _remark(self, text: str) -> None:
        self.remarks.append(text)
        self.progress.note(text)

    def _mixture(self, known: Known, assignment: Assignment, training: np.ndarray) -> tuple[np.ndarray, Mix | None]:
        """How often every document is stored in the training split, and why."""
        times = np.ones(len(known), dtype=np.int64)
        if not self.plan.mixture:
            return times, None
        names = [share.name for share in self.plan.mixture]
        group_of = np.array([names.index(s.group) if s.group in names else -1 for s in self.plan.sources])[known.sources]
        group_of[(assignment.verdicts != TRAIN) & (assignment.verdicts != CUT)] = -1
        members = [np.flatnonzero(group_of == group) for group in range(len(names))]
        decided = mix(self.plan.mixture, [round(float(training[each].sum())) for each in members])
        for each, wanted in zip(members, decided.times, strict=True):
            times[each] = copies(wanted, training[each], known.documents.digests[each], self.plan.seed)
        for remark in decided.remarks:
            self._remark(remark)
        return times, decided

    def _write_verdicts(self, known: Known, assignment: Assignment, times: np.ndarray) -> None:
        for unit in range(len(self.plan.units)):
            here = known.of(unit)
            cuts = np.zeros((here.stop - here.start, 2), dtype=np.int64)
            for i in np.flatnonzero(assignment.verdicts[here] == CUT).tolist():
                cuts[i] = assignment.cuts[here.start + i]
            np.savez(
                self.space.journal / f"verdicts-{unit:05d}.npz", verdicts=assignment.verdicts[here], cuts=cuts, copies=times[here]
            )

    def _tokenizer(
        self, known: Known, assignment: Assignment, times: np.ndarray, training: np.ndarray, adopted: Tokenizer | None
    ) -> Tokenizer:
        folder = self.space.folder / "tokenizer"
        if folder.exists():
            return Tokenizer.load(folder)
        if adopted is None:
            options = self.plan.options
            kind, size = options["tokenizer"], round(float((training * times).sum()))
            if kind in making.LEARNT:
                entries = options["vocab"] or making.vocabulary_for(size)
                rule = "as asked" if options["vocab"] else f"2·√{size:,} training bytes, to the nearest power of two"
                what = making.DESCRIPTIONS[kind].partition(",")[0]
                self.progress.note(f"training a {what} of {entries:,} entries ({rule})")
            share = min(1.0, making.SAMPLE_BYTES / max(1, size))
            sample = training_sample(self.space, self.plan, known, assignment, times, share)
            adopted = making.build(kind, sample, size, options["vocab"], options["min_count"])
        temporary = folder.with_name("tokenizer.tmp")
        adopted.save(temporary)
        replace_folder(temporary, folder)
        return Tokenizer.load(folder)


def _training_bytes(known: Known, assignment: Assignment) -> np.ndarray:
    """(n,) float64: bytes of every document that may be trained on."""
    found = np.where(assignment.verdicts == TRAIN, known.sizes, 0).astype(np.float64)
    for i in np.flatnonzero(assignment.verdicts == CUT).tolist():
        found[i] = known.sizes[i] * assignment.cuts[i][0] / max(1, int(known.documents.characters[i]))
    return found


def _unit_bytes(plan: Plan) -> list[float]:
    """About how much of the files every unit reads: every part of a file counts the same."""
    parts = Counter(part.source for unit in plan.units for part in unit)
    return [sum(plan.sources[part.source].size / parts[part.source] for part in unit) for unit in plan.units]
