"""`prepare`: from files to a data folder.

    find sources -> cut them into units -> scan (count, hash, quarantine, sample)       every unit, in parallel
                 -> decide (repeats, splits) -> make the tokenizer                      once
                 -> encode                                                             every unit, in parallel
                 -> pack into shards -> manifest -> rename                              once

Each step that took long leaves a marker in the journal, so a killed run goes on where it was.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from genus.modalities.text import Tokenizer
from genus.prepare import encode, scan
from genus.prepare import tokenizer as making
from genus.prepare.dataset import FORMAT, MANIFEST, SPLITS, VERSION, Dataset, sha256
from genus.prepare.pack import pack
from genus.prepare.plain import PIECE_BYTES, SPLIT_MODES
from genus.prepare.plan import Plan, expected_bytes
from genus.prepare.pool import cores, run_stage
from genus.prepare.progress import Progress
from genus.prepare.quarantine import collect
from genus.prepare.sources import Found, find
from genus.prepare.splits import CUT, REPEAT, TRAIN, Assignment, Documents, Fractions, assign
from genus.prepare.units import cut
from genus.prepare.workspace import Workspace
from genus.run import replace_folder, write_atomic

HELD_OUT = 0.05


def prepare(
    paths: str | Path | Sequence[str | Path],
    out: str | Path,
    *,
    field: str | None = None,
    tokenizer: str | Path = "bpe",
    vocab: int | None = None,
    min_count: int | None = None,
    split_documents: str = "file",
    validation: float | str | Path | Sequence[str | Path] | None = None,
    test: float | str | Path | Sequence[str | Path] | None = None,
    keep_repeats: bool = False,
    overwrite: bool = False,
    workers: int | None = None,
    progress: Progress | None = None,
    pairs: bool = False,
    fields: Sequence[str] = (),
) -> Dataset:
    """Make a data folder from files, folders or globs.

    Args:
        paths: .txt .md .jsonl .json .csv .tsv (also with .gz or .zst), .parquet, Hugging Face `datasets` folders, or folders
            of these.
        out: the folder to make. It is built in `OUT.partial`; a killed run given the same arguments continues there.
        field: text field of records; guessed when not given. A number is a column (from 1) of a table without a header line.
        tokenizer: "bpe", "bytes", "chars", "words", or the path of an existing one.
        vocab, min_count: see `genus.prepare.tokenizer.build`.
        split_documents: what a document is in plain text: "file", "blank-line" (groups of lines) or "line".
        validation, test: a share to hold out (0.05 when not given), or files that are the ready-made split.
        keep_repeats: keep exact repeats of a document.
        overwrite: replace a data folder that is already there.
        workers: processes; all cores when not given. The result does not depend on it.
        progress: where to tell progress; silent when not given.
        pairs: every document is a source and its target: lines `source TAB target`, two fields of records, or two line-aligned
            files, the source's first. fields: names of the two, guessed when not given.

    Raises:
        ValueError: with what to do about it.
    """
    progress = progress or Progress("none")
    paths = [paths] if isinstance(paths, str | Path) else list(paths)
    out = Path(out)
    if split_documents not in SPLIT_MODES:
        raise ValueError(f"--split-documents {split_documents}: choose one of {', '.join(SPLIT_MODES)}")
    if workers is not None and workers < 1:
        raise ValueError(f"--workers {workers}: at least one is needed")
    pairs = pairs or bool(fields)
    if pairs and field is not None:
        raise ValueError("--field names the text of single documents; of pairs name both sides, as in --fields de,en")
    found = find(paths, _files(validation), _files(test), field, list(fields) if pairs else None)
    fractions = _fractions(found, validation, test)
    adopted = None if making.is_built_in(str(tokenizer)) else making.adopt(tokenizer)
    plan = Plan(
        found.sources,
        cut(found.sources, split_documents),
        split_documents,
        0.0 if adopted or tokenizer == "bytes" else min(1.0, making.SAMPLE_BYTES / max(1, expected_bytes(found.sources))),
        {
            "tokenizer": str(tokenizer),
            "tokenizer_hash": hashlib.sha256(adopted.core.to_str().encode()).hexdigest() if adopted else None,
            "vocab": vocab,
            "min_count": min_count,
            "validation": fractions.validation,
            "test": fractions.test,
            "keep_repeats": keep_repeats,
            "pairs": pairs,
        },
    )
    opened = Workspace.open(out, plan.to_json(), overwrite)
    if opened is None:
        return Dataset.open(out)
    space, continued = opened
    for remark in found.remarks:
        progress.note(remark)
    return _Preparation(space, plan, found, out, workers or cores(), progress, continued).run(fractions, adopted)


class _Preparation:
    """One run of `prepare`, once it is clear what to do."""

    def __init__(
        self, space: Workspace, plan: Plan, found: Found, out: Path, workers: int, progress: Progress, continued: bool
    ) -> None:
        self.space, self.plan, self.found, self.out = space, plan, found, out
        self.workers, self.progress, self.continued = workers, progress, continued
        self.remarks = list(found.remarks)

    def run(self, fractions: Fractions, adopted: Tokenizer | None) -> Dataset:
        self._stage(scan.STAGE, "reading")
        documents, facts = self._documents()
        reasons, rejected_of = collect(self.space, self.plan)
        if not len(documents.characters):
            reasons_text = ", ".join(f"{reason}: {count:,}" for reason, count in reasons.most_common())
            raise ValueError(
                f"no usable document in the {len(self.plan.sources):,} files read ({reasons_text or 'all are empty'}); "
                f"see {self.space.folder / 'rejected'} for file and line"
            )
        self._tell_pieces(documents)
        self._tell_uneven(facts)
        keep, pairs = self.plan.options["keep_repeats"], self.plan.options["pairs"]
        assignment = assign(documents, fractions, drop_repeats=not keep, whole=pairs)
        self._write_verdicts(assignment, facts)
        tokenizer = self._tokenizer(documents, assignment, adopted)
        self._stage(encode.STAGE, "tokenizing")
        dtype = encode.dtype_for(tokenizer.vocab_size)
        total = sum(file.stat().st_size for file in self.space.journal.glob("encode-*.tokens"))
        with self.progress.stage("packing", total) as stage:
            splits = pack(self.space, len(self.plan.units), dtype, stage.advance, pairs)
        if not splits["train"]["documents"]:
            raise ValueError("every document went to validation or test: lower --validation and --test")
        manifest = self._manifest(tokenizer, dtype, splits, assignment, reasons, rejected_of)
        write_atomic(self.space.folder / MANIFEST, json.dumps(manifest, ensure_ascii=False, indent=1) + "\n")
        self.space.finish(self.out)
        return Dataset.open(self.out)

    def _stage(self, stage: str, name: str) -> None:
        sizes = [_unit_bytes(self.plan, unit) for unit in range(len(self.plan.units))]
        with self.progress.stage(name, sum(sizes)) as bar:
            had = run_stage(self.space, self.plan, stage, self.workers, lambda unit: bar.advance(sizes[unit]))
        if had and self.continued:
            self.progress.note(f"{name}: {had:,} of {len(sizes):,} units were already done")

    def _documents(self) -> tuple[Documents, list[dict[str, Any]]]:
        """What the scan knows of every document, over all units."""
        given = np.array([SPLITS.index(s.split) if s.split in SPLITS[1:] else -1 for s in self.plan.sources], dtype=np.int8)
        parts: dict[str, list[np.ndarray]] = {"digests": [], "characters": [], "starts": [], "given": []}
        facts = []
        for unit in range(len(self.plan.units)):
            facts.append(self.space.facts(scan.STAGE, unit))
            self.remarks += facts[-1]["remarks"]
            with np.load(self.space.file(scan.STAGE, unit, "npz")) as known:
                for name in ("digests", "characters", "starts"):
                    parts[name].append(known[name])
                parts["given"].append(given[known["sources"]])
        return Documents(**{name: np.concatenate(arrays) for name, arrays in parts.items()}), facts

    def _tell_pieces(self, documents: Documents) -> None:
        """Say which files were too large to be one document."""
        pieces: Counter[int] = Counter()
        first = 0
        for unit in range(len(self.plan.units)):
            with np.load(self.space.file(scan.STAGE, unit, "npz")) as known:
                sources = known["sources"]
            pieces.update(sources[~documents.starts[first : first + len(sources)]].tolist())
            first += len(sources)
        for index, count in sorted(pieces.items()):
            label = self.plan.sources[index].label
            self.remarks.append(
                f"{label}: too large for one document, cut at line ends into {count + 1:,} of about {PIECE_BYTES >> 20} MB"
            )
            self.progress.note(self.remarks[-1])

    def _tell_uneven(self, facts: list[dict[str, Any]]) -> None:
        """Say how many pairs are of very different lengths."""
        uneven = sum(known.get("uneven", 0) for known in facts)
        if uneven:
            self.remarks.append(
                f"{uneven:,} pair{'s have' if uneven > 1 else ' has'} one side more than {scan.UNEVEN} times as long as the "
                "other; kept, but look whether the two sides correspond"
            )
            self.progress.note(self.remarks[-1])

    def _write_verdicts(self, assignment: Assignment, facts: list[dict[str, Any]]) -> None:
        first = 0
        for unit, known in enumerate(facts):
            last = first + known["documents"]
            verdicts = assignment.verdicts[first:last]
            cuts = np.array(
                [assignment.cuts.get(i, (0, 0)) for i in range(first, last)] if assignment.cuts else np.zeros((0, 2)),
                dtype=np.int64,
            )
            np.savez(self.space.journal / f"verdicts-{unit:05d}.npz", verdicts=verdicts, cuts=cuts)
            first = last

    def _tokenizer(self, documents: Documents, assignment: Assignment, adopted: Tokenizer | None) -> Tokenizer:
        folder = self.space.folder / "tokenizer"
        if folder.exists():
            return Tokenizer.load(folder)
        options = self.plan.options
        if adopted is None:
            size = self._training_bytes(documents, assignment)
            if options["tokenizer"] == "bpe":
                entries = options["vocab"] or making.vocabulary_for(size)
                rule = "as asked" if options["vocab"] else f"2·√{size:,} training bytes, to the nearest power of two"
                self.progress.note(f"training a byte-level BPE of {entries:,} entries ({rule})")
            adopted = making.build(
                options["tokenizer"], self._sample(documents, assignment), size, options["vocab"], options["min_count"]
            )
        temporary = folder.with_name("tokenizer.tmp")
        adopted.save(temporary)
        replace_folder(temporary, folder)
        return Tokenizer.load(folder)

    def _training_bytes(self, documents: Documents, assignment: Assignment) -> int:
        total = 0.0
        first = 0
        for unit in range(len(self.plan.units)):
            with np.load(self.space.file(scan.STAGE, unit, "npz")) as known:
                sizes = known["sizes"]
            verdicts = assignment.verdicts[first : first + len(sizes)]
            total += float(sizes[verdicts == TRAIN].sum())
            for i in np.flatnonzero(verdicts == CUT):
                train = assignment.cuts[first + int(i)][0]
                total += float(sizes[i]) * train / max(1, int(documents.characters[first + i]))
            first += len(sizes)
        return round(total)

    def _sample(self, documents: Documents, assignment: Assignment) -> Iterator[str]:
        """Texts put aside by the scan, as far as they belong to the training split."""
        first = 0
        for unit in range(len(self.plan.units)):
            with open(self.space.file(scan.STAGE, unit, "sample"), encoding="utf-8") as file:
                for line in file:
                    document, start, text = json.loads(line)
                    verdict = assignment.verdicts[first + document]
                    if verdict == CUT:
                        text = text[: max(0, assignment.cuts[first + document][0] - start)]
                    if text and verdict in (TRAIN, CUT):
                        yield text
            first += self.space.facts(scan.STAGE, unit)["documents"]

    def _manifest(
        self,
        tokenizer: Tokenizer,
        dtype: np.dtype,
        splits: dict[str, Any],
        assignment: Assignment,
        reasons: Counter[str],
        rejected_of: Counter[int],
    ) -> dict[str, Any]:
        files = {file.name: sha256(file) for file in sorted((self.space.folder / "tokenizer").iterdir())}
        repeats = int((assignment.verdicts == REPEAT).sum())
        train = splits["train"]
        shards = [s["shards"] for s in splits.values()]
        shards += [s["source"]["shards"] for s in splits.values() if "source" in s]
        content = json.dumps([dtype.name, files, shards], sort_keys=True)
        return {
            "format": FORMAT,
            "version": VERSION,
            "fingerprint": hashlib.sha256(content.encode()).hexdigest(),
            "dtype": dtype.name,
            "bytes_per_token": train["bytes"] / train["tokens"],
            "characters_per_token": train["characters"] / train["tokens"],
            "tokenizer": {
                "kind": tokenizer.kind,
                "vocab_size": tokenizer.vocab_size,
                "bos_id": tokenizer.bos_id,
                "eos_id": tokenizer.eos_id,
                "description": self._describe(tokenizer),
                "files": files,
            },
            "splits": splits,
            **({"pairs": self._sides()} if self.plan.options["pairs"] else {}),
            "split_rule": assignment.rule,
            "drops": dict(reasons) | ({"repeated document": repeats} if repeats else {}),
            "rejected": sum(reasons.values()),
            "sources": self._sources(rejected_of),
            "files_left_aside": self.found.skipped,
            "remarks": self.remarks,
            "options": self.plan.options | {"split_documents": self.plan.split_documents},
        }

    def _sides(self) -> dict[str, str]:
        """What the sides of the pairs are called in the first file."""
        first = self.plan.sources[0]
        names = {"source": first.source_field, "target": first.field}
        return {side: f"column {name + 1}" if isinstance(name, int) else str(name) for side, name in names.items()}

    def _sources(self, rejected_of: Counter[int]) -> list[dict[str, Any]]:
        documents: Counter[int] = Counter()
        tokens: Counter[int] = Counter()
        for unit in range(len(self.plan.units)):
            with np.load(self.space.file(scan.STAGE, unit, "npz")) as known:
                documents.update(Counter(known["sources"].tolist()))
            for source, count in self.space.facts(encode.STAGE, unit)["tokens_of_source"].items():
                tokens[int(source)] += count
        return [
            {
                "name": source.label,
                "kind": source.format + (f".{source.compression}" if source.compression else ""),
                "size": source.size,
                "encoding": source.encoding,
                "field": source.field,
                "split": source.split,
                "documents": documents[i],
                "tokens": tokens[i],
                "rejected": rejected_of[i],
            }
            for i, source in enumerate(self.plan.sources)
        ]

    def _describe(self, tokenizer: Tokenizer) -> str:
        options = self.plan.options
        if tokenizer.kind == "imported" or not making.is_built_in(options["tokenizer"]):
            return f"{tokenizer.vocab_size:,} entries, from {options['tokenizer']}"
        what = {
            "bpe": "byte-level BPE, lossless",
            "bytes": "bytes, lossless",
            "chars": "characters, lossless (bytes stand in for unseen ones)",
            "words": "words, lossy: spaces are not kept, rare words become <unk>",
        }[tokenizer.kind]
        return f"{tokenizer.vocab_size:,} entries: {what}"


def _unit_bytes(plan: Plan, unit: int) -> int:
    total = 0
    for part in plan.units[unit]:
        source = plan.sources[part.source]
        if source.format == "parquet":
            total += source.size * (part.stop is not None and part.start == 0)
        else:
            total += (source.size if part.stop is None else part.stop) - part.start
    return total


def _files(value: Any) -> list[str | Path]:
    if value is None or isinstance(value, int | float):
        return []
    return [value] if isinstance(value, str | Path) else list(value)


def _fractions(found: Found, validation: Any, test: Any) -> Fractions:
    """Shares to hold out of what is ours to split: none for a split that is ready-made; beside one, a test set only if asked."""
    ready = {source.split for source in found.sources}

    def share(name: str, value: Any) -> float:
        if name in ready:
            return 0.0
        if value is None:
            return 0.0 if name == "test" and ready != {None} else HELD_OUT
        return float(value)

    return Fractions(share("validation", validation), share("test", test))
