"""`genus evaluate`: what a model is worth on held-out text."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from tyro.conf import FlagCreatePairsOff, Positional, arg

if TYPE_CHECKING:
    from rich.console import Console

    from genus.evaluate.denoising import Denoising
    from genus.evaluate.evaluation import Evaluation
    from genus.evaluate.probes import Curve, ProbeResult
    from genus.evaluate.translation import Translation
    from genus.prepare.dataset import Dataset
    from genus.run import Loaded

CHINESE = 0.1  # share of Chinese characters from which perplexity per character is shown
WIDTH = 100  # of the table where there is no terminal to ask
COLUMNS = 9  # points of a probe's curve that are shown
SHOWN = 3  # texts of a translation
HIDDEN = 0.2  # share of progress that accuracy hid, from which it is said


@dataclass(frozen=True)
class Options:
    """Bits per byte and perplexity of a left-to-right model on a split of prepared data, beside what counting and xz reach.

    On pairs (genus prepare --pairs) an encoder-decoder is measured by the loss of the targets and by BLEU and chrF of its own.

    A model of masked tokens or spans (BERT, T5) is measured at its own objective: loss, perplexity and accuracy with fixed masks.

    Bits per byte can be compared across tokenizers. Every target counts once, and documents never see each other.

    With --probes the model is probed instead. Some probes read the trained model (induction, context, position, shots). Others
    train a small model of the same architecture from nothing, to see what it can learn (recall, grokking, addition,
    addition-reversed, regression).
    """

    model: Annotated[Positional[Path], arg(metavar="RUN|FOLDER")]
    """A run, or a folder in Hugging Face layout."""
    data: Annotated[Positional[Path | None], arg(metavar="DATA")] = None
    """A folder that genus prepare made. With --probes it may be left out: a run knows its own."""
    split: Literal["validation", "test", "train"] = "validation"
    """Which split."""
    window: int | None = None
    """Positions that attention sees at once; default: the model's context, at most 2,048."""
    stride: int | None = None
    """Positions by which the window moves; default: half of the window. Smaller is slower and a little better."""
    documents: int | None = None
    """Only this many documents, evenly spaced."""
    dtype: Literal["fp32", "bf16", "auto"] = "fp32"
    """Precision of the computation; auto = bf16 where the machine multiplies it natively."""
    order: int = 5
    """Order of the n-gram beside the result."""
    alone: FlagCreatePairsOff[bool] = False
    """Measure the model alone, without the n-gram and xz."""
    batch: int = 8192
    """Positions computed at once; lower it when memory is short."""
    json: Path | None = None
    """Write everything to this file; a run always keeps its newest evaluation in RUN/evaluation.json, for its report."""
    quiet: FlagCreatePairsOff[bool] = False
    """No progress."""
    beam: int = 4
    """Of pairs: width of the beam that the model's own texts are searched with; 0 = none are made, the loss alone."""
    length_penalty: float = 0.6
    """Of that search."""
    probes: Annotated[tuple[str, ...] | None, arg(metavar="[NAME ...]")] = None
    """Probe the model instead, such as --probes induction,recall; no name = all that read the trained model. A run keeps the
    results in RUN/probes.json."""
    probe_time: str = "60s"
    """For each probe that trains: 90s, 5m ..."""
    labels: Path | None = None
    """Of the probe shots: .tsv, .csv or .jsonl with the columns text and label."""
    seed: int = 0
    """Of the probes' random choices, and of masks."""


def main(options: Options) -> int:
    from genus.evaluate import evaluate
    from genus.evaluate.denoising import fills_in
    from genus.evaluate.evaluation import FILE
    from genus.ops.memory import keep_freed_memory
    from genus.prepare.dataset import Dataset
    from genus.prepare.progress import Progress
    from genus.run import load
    from genus.train.threads import settle

    keep_freed_memory()
    settle()
    if options.probes is not None:
        return probe(options)
    if options.data is None:
        raise ValueError("DATA is missing: give a folder that genus prepare made (only --probes can do without)")
    loaded = load(options.model)
    data = Dataset.open(options.data)
    if fills_in(loaded) and not data.pairs:
        return fill_in(options, loaded, data)
    if getattr(loaded.spec, "encoder", None) is not None:
        return translate(options, loaded)
    result = evaluate(
        loaded,
        options.data,
        options.split,
        window=options.window,
        stride=options.stride,
        documents=options.documents,
        dtype=options.dtype,
        beside=not options.alone,
        order=options.order,
        batch=options.batch,
        progress=Progress("none" if options.quiet else "auto"),
    )
    _keep(result, options, FILE)
    show(result)
    return 0


def fill_in(options: Options, loaded: Loaded, data: Dataset) -> int:
    """Evaluate a model of masked tokens or spans, print and write what was found."""
    from genus.evaluate.denoising import evaluate_denoising
    from genus.evaluate.evaluation import FILE
    from genus.prepare.progress import Progress

    given = [f"--{name}" for name in ("window", "stride", "documents") if getattr(options, name) is not None]
    if given:
        raise ValueError(f"{', '.join(given)} is for models that read from left to right; leave it out")
    result = evaluate_denoising(
        loaded,
        data,
        options.split,
        dtype=options.dtype,
        seed=options.seed,
        progress=Progress("none" if options.quiet else "auto"),
    )
    _keep(result, options, FILE)
    show_denoising(result)
    return 0


def show_denoising(result: Denoising) -> None:
    """Print the figures."""
    from rich.box import SIMPLE
    from rich.table import Table

    console = _console()
    line = f"{result.data}, {result.split}: {result.tokens:,} tokens read, {result.objective['part']}, rows of {result.context}"
    console.print(line, soft_wrap=True, highlight=False)
    table = Table(box=SIMPLE)
    for name in ("", "value", "95 %", "targets"):
        table.add_column(name, justify="left" if not name else "right", no_wrap=True)
    for figure in result.figures:
        share = figure.name.endswith("accuracy")
        low, high = figure.interval or (None, None)
        text = f"{100 * figure.value:.1f} %" if share else f"{figure.value:.4f} nats"
        bounds = "" if low is None or high is None else f"{100 * low:.1f}–{100 * high:.1f}" if share else f"{low:.4f}–{high:.4f}"
        table.add_row(figure.name.replace("_", " "), text, bounds, f"{figure.count:,}")
    table.add_row("perplexity per target", _number(result.perplexity), "", "")
    console.print(table)
    for note in (*result.notes, result.dtype):
        console.print(f"  {note}", soft_wrap=True, highlight=False)


def translate(options: Options, loaded: Loaded) -> int:
    """Evaluate an encoder-decoder on pairs, print and write what was found."""
    from genus.evaluate import evaluate_pairs
    from genus.evaluate.translation import FILE
    from genus.generate.beam import Beam
    from genus.generate.texts import Generator
    from genus.prepare.progress import Progress

    assert options.data is not None
    decoding = f"beam {options.beam}, length penalty {options.length_penalty:g}"

    def rewrite(sources: list[str]) -> list[str]:
        assert loaded.tokenizer is not None
        longest = max(len(loaded.tokenizer.encode(source)) for source in sources)
        generator = Generator(loaded, max_tokens=2 * longest + 10, batch=32)
        return [text.text for text in generator(sources, beam=Beam(options.beam, options.length_penalty))]

    result = evaluate_pairs(
        loaded,
        options.data,
        options.split,
        translate=rewrite if options.beam else None,
        decoding=decoding,
        documents=options.documents,
        dtype=options.dtype,
        progress=Progress("none" if options.quiet else "auto"),
    )
    _keep(result, options, FILE)
    show_translation(result)
    return 0


def show_translation(result: Translation) -> None:
    """Print the figures, BLEU by length, and a few texts."""
    from rich.box import SIMPLE
    from rich.table import Table

    console = _console()
    plural = "" if result.pairs == 1 else "s"
    lines = [f"{result.data}, {result.split}: {result.pairs:,} pair{plural}, {result.tokens:,} target tokens"]
    perplexity = _number(result.perplexity)
    lines.append(f"loss {result.loss:.4f} nats per token, perplexity {perplexity}, {result.bits_per_byte:.4f} bits per byte")
    lines += [f"{score.name} {score.value:.2f}  {score.signature}" for score in result.scores]
    for line in lines:
        console.print(line, soft_wrap=True, highlight=False, markup=False)
    if result.scores:
        table = Table(box=SIMPLE)
        table.add_column("words in the source")
        for group in result.by_length:
            table.add_column(f"{group.low}–{group.high}", justify="right", no_wrap=True)
        table.add_row("pairs", *(f"{group.pairs:,}" for group in result.by_length))
        table.add_row("BLEU", *(f"{group.bleu:.1f}" for group in result.by_length))
        console.print(table)
        for source, reference, made in result.texts[:SHOWN]:
            for line in (source, f"  {made}", f"  ({reference})"):
                console.print(line, soft_wrap=True, highlight=False, markup=False)
    for line in ([result.decoding] if result.decoding else []) + list(result.notes):
        console.print(f"  {line}", soft_wrap=True, highlight=False, markup=False)


def probe(options: Options) -> int:
    """Run the probes, print and write what they found."""
    from genus.cli.train import duration
    from genus.evaluate import probes
    from genus.evaluate.probes.runner import FILE, write
    from genus.prepare.progress import Progress
    from genus.run import CONFIG

    results = probes.run(
        options.model,
        options.probes or (),
        data=options.data,
        split=options.split,
        labels=options.labels or (),
        window=options.window,
        seconds=duration(options.probe_time),
        seed=options.seed,
        progress=Progress("none" if options.quiet else "auto"),
    )
    if (options.model / CONFIG).is_file():
        write(options.model / FILE, results, str(options.model))
    if options.json is not None:
        write(options.json, results, str(options.model))
    show_probes(results)
    return 0


def show_probes(results: list[ProbeResult]) -> None:
    """Print one table of all probes, then the curve of each."""
    from rich.box import SIMPLE
    from rich.table import Table

    console = _console()
    headings = {"read": "the trained model, read", "train": "its architecture, trained from nothing on synthetic tasks"}
    for kind, heading in headings.items():
        found = [r for r in results if r.kind == kind]
        if not found:
            continue
        console.print(heading if kind == "train" else f"{heading}: {found[0].subject}", soft_wrap=True, highlight=False)
        table = Table(box=SIMPLE)
        for name in ("probe", "figure", "value", "95 %"):
            table.add_column(name, justify="right" if name in ("value", "95 %") else "left", no_wrap=True)
        for result in found:
            rows = {result.score_name: ("score", result.score), result.loss_name: ("loss", result.loss)}
            rows |= {name: (name, value) for name, value in result.figures.items()}
            for number, (name, (key, value)) in enumerate(rows.items()):
                interval = result.intervals.get(key)
                bounds = "" if interval is None else f"{interval[0]:.3f} to {interval[1]:.3f}"
                table.add_row(result.probe if number == 0 else "", name, _figure(value), bounds)
        console.print(table)
        shown: set[Curve] = set()
        for result in found:
            small = f"{result.subject}; " if kind == "train" else ""
            console.print(f"{result.probe}: {small}{result.about}", soft_wrap=True, highlight=False)
            for curve in result.curves:
                if curve not in shown:  # two probes may read the same text
                    _show_curve(console, curve)
                shown.add(curve)
            for note in result.notes:
                console.print(f"  {note}", soft_wrap=True, highlight=False)


def _show_curve(console: Console, curve: Curve) -> None:
    """At most `COLUMNS` of the points, and the verdict."""
    from rich.box import SIMPLE
    from rich.table import Table

    last = len(curve.x) - 1
    chosen = sorted({round(i * last / (COLUMNS - 1)) for i in range(COLUMNS)}) if last >= COLUMNS else range(last + 1)
    table = Table(box=SIMPLE, show_edge=False, pad_edge=False)
    table.add_column(curve.along)
    for i in chosen:
        table.add_column(f"{curve.x[i]:,.4g}", justify="right", no_wrap=True)
    table.add_row(curve.score_name, *(f"{curve.score[i]:.2f}" for i in chosen))
    table.add_row(curve.loss_name, *(f"{curve.loss[i]:.2f}" for i in chosen))
    console.print(table)
    verdict = curve.verdict
    line = f"{verdict.verdict}: {verdict.reason}"
    if curve.hidden is not None and curve.hidden >= HIDDEN:
        line += f"; {curve.hidden:.0%} of it was done before the {curve.score_name} moved"
    console.print(f"  {line}", soft_wrap=True, highlight=False)


def _figure(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:.3f}"


def _keep(result: Evaluation | Denoising | Translation, options: Options, name: str) -> None:
    """Write what was found into the run, where the model is one, and where the user asks for it."""
    from genus.run import CONFIG

    if (options.model / CONFIG).is_file():
        result.write(options.model / name)
    if options.json is not None:
        result.write(options.json)


def _console() -> Console:
    from rich.console import Console

    console = Console()
    return console if console.is_terminal else Console(width=WIDTH)


def show(result: Evaluation) -> None:
    """Print the table."""
    from rich.box import SIMPLE
    from rich.table import Table

    console = _console()
    chinese = result.chinese >= CHINESE
    plural = "" if result.documents == 1 else "s"
    console.print(
        f"{result.data}, {result.split}: {result.documents:,} document{plural}, {result.bytes:,} bytes",
        soft_wrap=True,
        highlight=False,
    )
    table = Table(box=SIMPLE)
    table.add_column("")
    for heading in ("bits per byte", "95 %", "perplexity\nper token", "per word", *(["per char."] if chinese else [])):
        table.add_column(heading, justify="right", no_wrap=True)
    for measure in (result.model, *result.beside):
        interval = "" if measure.interval is None else f"{measure.interval[0]:.4f}–{measure.interval[1]:.4f}"
        perplexities = [measure.perplexity, measure.per_word, *([measure.per_character] if chinese else [])]
        table.add_row(measure.name, f"{measure.bits_per_byte:.4f}", interval, *map(_number, perplexities))
    console.print(table)
    lines = [f"{m.name}: {m.about}" for m in result.beside]
    if result.window:
        lines.insert(0, f"window {result.window:,}, stride {result.stride:,}, {result.dtype}")
    else:
        lines.insert(0, f"every target sees its whole document, as far as the model remembers; {result.dtype}")
    lines += result.notes
    words = f"words: what white space separates ({result.words:,})"
    lines.append(
        words
        + (f"; characters: all ({result.characters:,})" if chinese else "")
        + "; end tokens are scored, not counted as words"
    )
    for line in lines:
        console.print(f"  {line}", soft_wrap=True, highlight=False)


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.2f}" if value < 10_000 else f"{value:.3g}"
