"""`genus generate`: continue prompts on the terminal or in files."""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any, Literal

import tyro
from tyro.conf import Positional, arg

from genus.cli.decoding import Choosing, Form, fit_threads, unescaped

if TYPE_CHECKING:
    from genus.generate.texts import Generation, Generator
    from genus.modalities.text import Tokenizer

    Stream = Iterator[tuple[int, str, Generation | None]]


@dataclass(frozen=True)
class Options:
    """Continue a prompt with a trained model; with an encoder-decoder, rewrite a source.

    The model's text follows the prompt as it is made. Several prompts, or --number, are decoded together and printed in order.
    The same seed gives the same text, whatever else is in the batch.

    With --chat a model that was tuned on conversations answers the prompts; for a conversation there is `genus chat RUN`.
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
    """Answer each prompt as the assistant of a conversation."""
    system: str | None = None
    """What the assistant is told before the conversation (with --chat)."""
    output: Annotated[Path | None, arg(aliases=["-o"])] = None
    """Write one JSON record per text here instead of printing."""
    max_tokens: int = 256
    """Most tokens to add."""
    stop: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    r"""End at this string and leave it out; may be given several times. \n and \t are understood."""
    number: Annotated[int, arg(aliases=["-n"])] = 1
    """Texts per prompt."""
    best_of: int | None = None
    """Sample so many texts per prompt and show the best --number: those with the highest mean log-probability of a token."""
    logprobs: int | None = None
    """Show the probability of every token, and of so many of the most probable ones in its place."""
    beam: int | None = None
    """Search with a beam of this width instead of sampling; the best --number texts are shown."""
    length_penalty: float = 0.6
    """Of the beam search: a text of n tokens is ranked by log p / ((5 + n) / 6) ^ length_penalty."""
    choosing: Annotated[Choosing, arg(name="")] = Choosing()
    form: Annotated[Form, arg(name="")] = Form()
    draft: Annotated[Path | None, arg(metavar="RUN|FOLDER")] = None
    """A smaller model or n-gram run with the same tokenizer, which guesses ahead: texts as before, sooner if it guesses well."""
    draft_tokens: int = 4
    """How many tokens --draft proposes at a time."""
    batch: int = 16
    """Texts decoded together."""
    dtype: Literal["fp32", "bf16"] = "fp32"
    """Precision of the arithmetic."""
    weights: Literal["fp32", "bf16", "int8", "int4"] | None = None
    """How the weights are stored: fewer bits are read faster, and cost precision. Default: as --dtype."""


def main(options: Options) -> int:
    records = [{"prompt": p} for p in (*options.prompt, *options.source)]
    if options.file is not None:
        records += list(read_prompts(options.file, options.chat))
    _check(options, len(records))
    constraint = options.form.constraint()

    from genus.generate.texts import Generator, placed
    from genus.run import load
    from genus.train.machine import default_device
    from genus.train.threads import settle

    settle()
    loaded = placed(load(options.model), default_device())
    rewrites = getattr(loaded.spec, "encoder", None) is not None
    if options.source and not rewrites:
        raise ValueError(f"{options.model} has no encoder that could read a --source; give the text as a prompt")
    generator = Generator(
        loaded,
        max_tokens=options.max_tokens,
        sampling=options.choosing.sampling(loaded.tokenizer, 0.0 if rewrites else 0.8, options.logprobs),
        stop=[unescaped(s) for s in options.stop],
        seed=options.choosing.seed,
        batch=options.batch,
        dtype=options.dtype,
        weights=options.weights,
        constraint=constraint,
        draft=options.draft,
        draft_tokens=options.draft_tokens,
    )
    fit_threads(generator, min(options.batch, len(records) * options.number))
    start = time.perf_counter()
    stream = _stream(options, generator, records)
    # a text does not follow its source, nor an answer its question
    prompts = ["" if rewrites or options.chat else r["prompt"] for r in records]
    if options.output is not None:
        tokens = write(stream, records, options.number, options.output, generator.tokenizer)
    else:
        tokens = show(stream, prompts, options.number, sys.stdout, generator.tokenizer)
    seconds = time.perf_counter() - start
    if options.output is not None or sys.stderr.isatty():
        speed = f"{tokens} tokens in {seconds:.1f} s, {tokens / seconds:.0f} tokens/s"
        print(f"{speed}, seed {options.choosing.seed}{_guessed(generator)}", file=sys.stderr)
    return 0


def _check(options: Options, records: int) -> None:
    """Raises ValueError: options that do not go together."""
    if options.system is not None and not options.chat:
        raise ValueError("--system is said to the assistant of a conversation; add --chat")
    if not records and options.chat:
        raise ValueError(f"there is nothing to answer; give a prompt, or talk with the model: genus chat {options.model}")
    if not records:
        raise ValueError('there is no prompt; give one, such as genus generate RUN "Once upon a time", or --file')
    if options.number < 1:
        raise ValueError(f"--number {options.number} must be at least 1")
    given = [name for name in ("beam", "best_of", "chat") if getattr(options, name) not in (None, False)]
    if len(given) > 1:
        first, second = ("--" + name.replace("_", "-") for name in given[:2])
        raise ValueError(f"{first} and {second} do not go together; give one of them")
    if options.beam is not None and options.draft is not None:
        raise ValueError("--draft is for sampled and greedy texts; leave out --beam")


def _stream(options: Options, generator: Generator, records: list[dict[str, Any]]) -> Stream:
    if options.chat:
        from genus.generate.chat import Talker
        from genus.generate.session import conversation

        talks = [conversation(r, options.system) for r in records]
        return Talker(generator).replies(talks, number=options.number)
    prompts = [r["prompt"] for r in records]
    if options.beam is not None:
        from genus.generate.beam import Beam

        return generator.search(prompts, Beam(options.beam, options.length_penalty), options.number)
    if options.best_of is not None:
        return generator.best(prompts, options.number, options.best_of)
    return generator.stream(prompts, options.number)


def _guessed(generator: Generator) -> str:
    """How many of a draft's proposals were kept."""
    proposed, kept = generator.guessed
    return f", {100 * kept / proposed:.0f} % of {proposed} proposed tokens kept" if proposed else ""


def show(stream: Stream, prompts: list[str], number: int, out: IO[str], tokenizer: Tokenizer) -> int:
    """Print every text in order, after its prompt; the one whose turn it is appears as it grows. Returns how many tokens."""
    total, tokens, turn = len(prompts) * number, 0, 0
    waiting: dict[int, str] = {}
    done: dict[int, Generation] = {}

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
        done[place] = whole
        while turn in done:
            out.write("\n" + "".join(_lines(done.pop(turn), tokenizer)))
            turn += 1
            if turn < total:
                begin(turn)
    return tokens


def _lines(text: Generation, tokenizer: Tokenizer) -> Iterator[str]:
    """The tokens of a text with their probabilities, where they were asked for."""
    from genus.generate.token_bytes import token_text

    def shown(token: int) -> str:
        return json.dumps(token_text(tokenizer, token), ensure_ascii=False).replace("\\\\x", "\\x")

    for choice in text.choices:
        others = ", ".join(f"{shown(token)} {_percent(log_p)}" for token, log_p in choice.top)
        yield f"{shown(choice.id):>20} {_percent(choice.log_p or 0.0):>8}{'   of ' + others if others else ''}\n"


def _percent(log_p: float) -> str:
    return f"{100 * math.exp(log_p):.3g} %"


def write(stream: Stream, records: list[dict[str, Any]], number: int, output: Path, tokenizer: Tokenizer) -> int:
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
                extra: dict[str, Any] = {"text": text.text, "finish": text.finish, "tokens": len(text.ids)}
                extra |= {"sample": text.sample} if number > 1 else {}
                extra |= {} if text.score is None else {"score": text.score}
                extra |= {"logprobs": _logprobs(text, tokenizer)} if text.choices else {}
                out.write(json.dumps(records[turn // number] | extra, ensure_ascii=False) + "\n")
                turn += 1
                if sys.stderr.isatty():
                    print(f"\r{turn}/{total}", end="" if turn < total else "\n", file=sys.stderr, flush=True)
    return tokens


def _logprobs(text: Generation, tokenizer: Tokenizer) -> list[dict[str, Any]]:
    from genus.generate.token_bytes import token_text

    def record(token: int, log_p: float | None) -> dict[str, Any]:
        return {"id": token, "token": token_text(tokenizer, token), "logprob": log_p}

    return [record(c.id, c.log_p) | ({"top": [record(*each) for each in c.top]} if c.top else {}) for c in text.choices]


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
