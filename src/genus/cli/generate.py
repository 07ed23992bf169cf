"""`genus generate`: continue prompts on the terminal or in files."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any, Literal

import tyro
from tyro.conf import Positional, arg

if TYPE_CHECKING:
    from genus.generate.texts import Generation, Generator

    Stream = Iterator[tuple[int, str, Generation | None]]

SMALL = 8_000_000  # parameters times rows below which decoding uses one thread


@dataclass(frozen=True)
class Options:
    """Continue a prompt with a trained model; with an encoder-decoder, rewrite a source.

    The model's text follows the prompt as it is made. Several prompts, or --number, are decoded together and printed in order.
    The same seed gives the same text, whatever else is in the batch.

    With --chat a model that was tuned on conversations answers: the prompts, or what is typed when there are none.
    """

    model: Annotated[Positional[Path], arg(metavar="RUN|FOLDER")]
    """A run, or a folder in Hugging Face layout."""
    prompt: Annotated[Positional[tuple[str, ...]], arg(metavar="[PROMPT ...]")] = ()
    """One or more prompts."""
    source: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """A source text for an encoder-decoder to rewrite (translate, shorten ...); may be given several times."""
    file: Path | None = None
    """Prompts or sources from a file: one per line, or .jsonl whose records have "prompt" (or "source", or "text", or "messages"
    for --chat); - reads lines from the terminal."""
    chat: bool = False
    """Answer as the assistant of a conversation; without a prompt: a conversation on the terminal."""
    system: str | None = None
    """What the assistant is told before the conversation (with --chat)."""
    output: Annotated[Path | None, arg(aliases=["-o"])] = None
    """Write one JSON record per text here instead of printing."""
    max_tokens: int = 256
    """Most tokens to add."""
    temperature: float | None = None
    """Divides the logits: 0 = always the most probable token, 1 = the model's own probabilities. Default 0.8; 0 for a source."""
    top_k: int = 0
    """Choose among the k most probable tokens; 0 = all."""
    top_p: float = 1.0
    """Choose among the fewest tokens that together have this probability."""
    min_p: float = 0.0
    """Choose among tokens at least this times as probable as the best."""
    seed: int = 0
    """Of the random choices."""
    stop: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    r"""End at this string and leave it out; may be given several times. \n and \t are understood."""
    number: Annotated[int, arg(aliases=["-n"])] = 1
    """Texts per prompt."""
    beam: int | None = None
    """Search with a beam of this width instead of sampling; the best --number texts are shown."""
    length_penalty: float = 0.6
    """Of the beam search: a text of n tokens is ranked by log p / ((5 + n) / 6) ^ length_penalty."""
    batch: int = 16
    """Texts decoded together."""
    dtype: Literal["fp32", "bf16"] = "fp32"
    """Precision of the arithmetic."""


def main(options: Options) -> int:
    records = [{"prompt": p} for p in (*options.prompt, *options.source)]
    if options.file is not None:
        records += list(read_prompts(options.file, options.chat))
    if options.system is not None and not options.chat:
        raise ValueError("--system is said to the assistant of a conversation; add --chat")
    if not records and not options.chat:
        raise ValueError('there is no prompt; give one, such as genus generate RUN "Once upon a time", or --file')
    if options.number < 1:
        raise ValueError(f"--number {options.number} must be at least 1")

    from genus.generate.beam import Beam
    from genus.generate.sampling import Sampling
    from genus.generate.texts import Generator
    from genus.run import load

    loaded = load(options.model)
    rewrites = getattr(loaded.spec, "encoder", None) is not None
    if options.source and not rewrites:
        raise ValueError(f"{options.model} has no encoder that could read a --source; give the text as a prompt")
    temperature = (0.0 if rewrites else 0.8) if options.temperature is None else options.temperature
    generator = Generator(
        loaded,
        max_tokens=options.max_tokens,
        sampling=Sampling(temperature, options.top_k, options.top_p, options.min_p),
        stop=[s.replace("\\n", "\n").replace("\\t", "\t") for s in options.stop],
        seed=options.seed,
        batch=options.batch,
        dtype=options.dtype,
    )
    _fit_threads(generator, min(options.batch, len(records) * options.number))
    start = time.perf_counter()
    if options.chat:
        from genus.generate.chat import Talk, Talker
        from genus.generate.session import conversation, session

        talker = Talker(generator)
        if not records:
            session(Talk(talker, options.system), sys.stdin, sys.stdout)
            return 0
        stream = talker.replies([conversation(r, options.system) for r in records], number=options.number)
        prompts = [""] * len(records)
    else:
        prompts = [r["prompt"] for r in records]
        if options.beam is None:
            stream = generator.stream(prompts, options.number)
        else:
            stream = generator.search(prompts, Beam(options.beam, options.length_penalty), options.number)
        prompts = [""] * len(prompts) if rewrites else prompts  # a text does not follow its source
    if options.output is not None:
        tokens = write(stream, records, options.number, options.output)
    else:
        tokens = show(stream, prompts, options.number, sys.stdout)
    seconds = time.perf_counter() - start
    if options.output is not None or sys.stderr.isatty():
        print(f"{tokens} tokens in {seconds:.1f} s, {tokens / seconds:.0f} tokens/s, seed {options.seed}", file=sys.stderr)
    return 0


def _fit_threads(generator: Generator, rows: int) -> None:
    """One thread for a small model: its products take less time than waking a second thread for each."""
    import torch

    if rows * sum(p.numel() for p in generator.loaded.model.parameters()) < SMALL:
        torch.set_num_threads(1)


def show(stream: Stream, prompts: list[str], number: int, out: IO[str]) -> int:
    """Print every text in order, after its prompt; the one whose turn it is appears as it grows. Returns how many tokens."""
    total, tokens, turn = len(prompts) * number, 0, 0
    waiting: dict[int, str] = {}
    done: set[int] = set()

    def begin(place: int) -> None:
        if total > 1:
            out.write(f"--- {place + 1}/{total}\n")
        out.write(prompts[place // number] + waiting.pop(place, ""))
        out.flush()

    begun = False
    for place, piece, whole in stream:
        if not begun:  # not before the first token: what is refused shows its error alone
            begin(0)
            begun = True
        if place == turn:
            out.write(piece)
            out.flush()
        else:
            waiting[place] = waiting.get(place, "") + piece
        if whole is None:
            continue
        tokens += len(whole.ids)
        done.add(place)
        while turn in done:
            out.write("\n")
            turn += 1
            if turn < total:
                begin(turn)
    return tokens


def write(stream: Stream, records: list[dict[str, Any]], number: int, output: Path) -> int:
    """Write one record per text, in order, as soon as all before it are done. Returns the number of tokens made."""
    finished: dict[int, Generation] = {}
    total, tokens, turn = len(records) * number, 0, 0
    with _replacing(output) as out:
        for place, _, whole in stream:
            if whole is None:
                continue
            tokens += len(whole.ids)
            finished[place] = whole
            while turn in finished:
                text = finished.pop(turn)
                extra = {"text": text.text, "finish": text.finish, "tokens": len(text.ids)}
                extra |= {"sample": text.sample} if number > 1 else {}
                extra |= {} if text.score is None else {"score": text.score}
                out.write(json.dumps(records[turn // number] | extra, ensure_ascii=False) + "\n")
                turn += 1
                if sys.stderr.isatty():
                    print(f"\r{turn}/{total}", end="" if turn < total else "\n", file=sys.stderr, flush=True)
    return tokens


@contextmanager
def _replacing(path: Path) -> Iterator[IO[str]]:
    """A file that takes its name only when it is complete."""
    partial = path.with_name(f".{path.name}.partial")
    with open(partial, "w", encoding="utf-8") as out:
        yield out
    partial.replace(path)


def read_prompts(path: Path, chat: bool = False) -> Iterator[dict[str, Any]]:
    """Records with a "prompt" (or with "messages", for a chat) from a .jsonl file, else one per line that is not empty."""
    if str(path) == "-":
        yield from ({"prompt": line.rstrip("\n")} for line in sys.stdin if line.strip())
        return
    with open(path, encoding="utf-8-sig") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            if path.suffix not in (".jsonl", ".ndjson"):
                yield {"prompt": line.rstrip("\n")}
                continue
            try:
                record = json.loads(line)
            except json.JSONDecodeError as error:
                raise ValueError(f"{path}:{number}: not JSON ({error.msg})") from error
            if chat and isinstance(record, dict) and isinstance(record.get("messages"), list) and record["messages"]:
                yield record
                continue
            found = record if isinstance(record, dict) else {}
            prompt = next((found[name] for name in ("prompt", "source", "text") if name in found), None)
            if not isinstance(prompt, str):
                raise ValueError(f'{path}:{number}: the record has no string "prompt"')
            yield {**{k: v for k, v in record.items() if k != "text"}, "prompt": prompt}
