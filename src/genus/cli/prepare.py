"""`genus prepare`: from files to a data folder."""

from __future__ import annotations

import glob
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from tyro.conf import FlagCreatePairsOff, Positional, UseAppendAction, arg

JUDGE = "genus.tune.judge.Judge"
"""The step `classifier` with the models of `genus tune`, which `genus.prepare` may not import."""


@dataclass(frozen=True)
class Options:
    """Turn files of text into token shards with document boundaries, a tokenizer and a manifest.

    Read are .txt .md .jsonl .json .csv .tsv (each also as .gz or .zst), .parquet, folders of these, globs, and Hugging Face
    datasets folders. What cannot be used is counted and put aside in DATA/rejected, with file, line and reason. Memory stays
    bounded whatever the size. A run that was killed goes on where it was when the same command is given again.
    """

    paths: Annotated[Positional[tuple[str, ...]], arg(metavar="PATH ...")] = ()
    """Files, folders (read in sorted order, with what is inside them) or globs."""
    output: Annotated[Path | None, arg(aliases=["-o"])] = None
    """The folder to make."""
    steps: Annotated[tuple[str, ...], arg(metavar="STEP|PRESET...")] = ()
    """Clean the documents: steps in order, such as unicode language:keep=en+zh near-duplicates:threshold=0.8, or ready-made lists
    of them. --list-steps tells all, with their settings. A step that is named again with other settings runs again."""
    source: Annotated[UseAppendAction[tuple[str, ...]], arg(metavar="NAME=PATH@WEIGHT")] = ()
    """A group of a mixture and its share of the training text, such as poems=poems.txt@0.1; once for every group. Without a
    weight it is taken whole."""
    config: Path | None = None
    """A YAML file with sources (name, path, weight, epochs, cap) and steps, which come before those given here."""
    dry_run: FlagCreatePairsOff[bool] = False
    """Clean a sample, tell what every step did, with examples of each rule, and write nothing."""
    list_steps: FlagCreatePairsOff[bool] = False
    """Tell what every cleaning step does, its settings and what they are unless told otherwise, and end."""
    show: Literal["rejected"] | None = None
    """Look at a sample of what was dropped and changed when the folder given was made: genus prepare DATA --show rejected."""
    examples: int = 3
    """Of --show and --dry-run: how many examples of each rule."""
    field: str | None = None
    """Field with the text; guessed (and told) if not given. A number: that column of a table without a header line."""
    pairs: FlagCreatePairsOff[bool] = False
    """Every document is a source and its target: lines "source TAB target", two fields of records, or two line-aligned files."""
    fields: str | None = None
    """Of pairs: the fields of source and target, as in de,en; guessed (and told) if not given. Numbers: columns of a table
    without a header line, so 2,1 turns source and target round. Records may keep both in a field "translation"."""
    tokenizer: str = "bpe"
    """bpe or unigram (byte-level, trained here), bytes, chars, words (lossy), or a tokenizer.json or a folder that holds one."""
    vocab: int | None = None
    """Size of the vocabulary. Default for bpe, unigram: the power of two nearest to 2·√(training bytes), from 512 to 65,536."""
    min_count: int | None = None
    """Times a character (default 1) or a word (default 2) must be met to enter the vocabulary."""
    split_documents: Literal["file", "blank-line", "line"] = "file"
    """A document of plain text is: a file (cut at line ends every 8 MB), lines between blank lines, or a line."""
    validation: Annotated[tuple[str, ...], arg(aliases=["--val"], metavar="SHARE|FILE...")] = ()
    """Share to hold out for validation (default 0.05), or files that are the validation set."""
    test: Annotated[tuple[str, ...], arg(metavar="SHARE|FILE...")] = ()
    """Share to hold out for testing (default 0.05; 0 beside a ready-made split), or files that are the test set."""
    keep_repeats: FlagCreatePairsOff[bool] = False
    """Keep exact repeats of a document, which are otherwise dropped and counted."""
    overwrite: FlagCreatePairsOff[bool] = False
    """Replace a data folder that is already there."""
    seed: int = 0
    """Which documents are held out, and what the steps that throw dice choose."""
    workers: int | None = None
    """Processes (default: all cores). The result does not depend on it."""
    engine: str = "local"
    """local, ray (the cluster this machine belongs to, else one of its own) or ray://HOST:PORT. The result is the same."""
    quiet: FlagCreatePairsOff[bool] = False
    """Tell no progress, only the account at the end."""


def main(options: Options) -> int:
    if sys.stdout.encoding.lower() not in ("utf-8", "utf8") and hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="replace")
    if options.list_steps:
        print(_steps())
    elif options.show:
        print(_rejected(options))
    else:
        _prepare(options)
    return 0


def _prepare(options: Options) -> None:
    from genus.prepare import config, prepare
    from genus.prepare.pipeline import dry_run
    from genus.prepare.progress import Progress
    from genus.prepare.steps import provide
    from genus.prepare.tree import tree

    provide("classifier", JUDGE)

    told = config.load(options.config) if options.config else config.Config([], [])
    sources, steps = [*told.sources, *options.source], [*told.steps, *options.steps]
    if not options.paths and not sources:
        raise ValueError("there is nothing to prepare; give files or folders, such as genus prepare texts/ -o DATA")
    read: dict[str, Any] = {
        "field": options.field,
        "split_documents": options.split_documents,
        "pairs": options.pairs,
        "fields": tuple(f.strip() for f in options.fields.split(",")) if options.fields else (),
        "steps": steps,
        "sources": sources,
        "validation": share_or_files("--validation", options.validation),
        "test": share_or_files("--test", options.test),
        "seed": options.seed,
        "workers": options.workers,
        "progress": Progress("none" if options.quiet else "auto"),
    }
    if options.dry_run:
        print(dry_run(options.paths, examples=options.examples, **read))
        return
    if options.output is None:
        raise ValueError("say which folder to make, as in genus prepare texts/ -o DATA")
    dataset = prepare(
        options.paths,
        options.output,
        tokenizer=options.tokenizer,
        vocab=options.vocab,
        min_count=options.min_count,
        keep_repeats=options.keep_repeats,
        overwrite=options.overwrite,
        engine=options.engine,
        **read,
    )
    print(tree(dataset.manifest, options.output))


def _steps() -> str:
    from genus.prepare import steps
    from genus.prepare.steps.presets import PRESETS

    width = max(map(len, [*steps.NAMES, *PRESETS]))
    lines = []
    for name, summary in steps.summaries().items():
        lines.append(f"{name:<{width}}  {summary}")
        told = [f"{field}={value}" for field, value in steps.defaults(name).items()]
        lines += textwrap.wrap(" ".join(told), initial_indent=" " * (width + 4), subsequent_indent=" " * (width + 4), width=120)
    return "\n".join([*lines, "", *(f"{name:<{width}}  = {' '.join(words)}" for name, words in PRESETS.items())])


def _rejected(options: Options) -> str:
    from genus.prepare.show import show

    folder = options.output or (Path(options.paths[0]) if len(options.paths) == 1 else None)
    if folder is None:
        raise ValueError("name the folder to look into, as in genus prepare DATA --show rejected")
    return show(folder, options.examples)


def share_or_files(name: str, values: tuple[str, ...]) -> float | tuple[str, ...] | None:
    """What `--validation` or `--test` was given: a share, files, or nothing.

    Raises:
        ValueError: neither a number nor a file that exists.
    """
    if len(values) == 1:
        try:
            return float(values[0])
        except ValueError:
            pass
    from genus.prepare.opening import is_address

    for value in values:
        if not (is_address(value) or Path(value).exists() or glob.glob(value, recursive=True)):
            raise ValueError(f"{name} {value}: neither a share such as 0.05 nor a file that exists")
    return values or None
