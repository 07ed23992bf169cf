"""From prompts to texts: what `genus.generate(...)` and the command line call."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from genus.generate.beam import Beam, beam_search
from genus.generate.engine import Engine, half_precision
from genus.generate.sampling import Sampling
from genus.generate.sequence import CONTEXT, Request
from genus.modalities.text import Tokenizer
from genus.run import Loaded, load
from genus.spec import Spec, walk

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


@dataclass(frozen=True)
class Generation:
    """A continued prompt.

    Attributes:
        prompt, text: what was given, and what the model added. ids: the added tokens, an end token included.
        finish: "end" (the model ended its document), "stop" (at a stop string) or "length". sample: 0, 1, ... of this prompt.
        rewritten: the prompt is a source that the text was made from, and is not continued. score: of a beam search.
    """

    prompt: str
    text: str
    ids: tuple[int, ...]
    finish: str
    sample: int = 0
    rewritten: bool = False
    score: float | None = None

    def __str__(self) -> str:
        return self.text if self.rewritten else self.prompt + self.text


class Generator:
    """A loaded model with its rules for generating; reuse it for many prompts.

    Args:
        model: a run, a Hugging Face folder, or what `genus.load` returned.
        max_tokens: most tokens to add. sampling: how a token is chosen. stop: strings that end a text and are left out.
        seed: a text depends on this, on its prompt and on its sample number, and on nothing else: not on its neighbours in
            the batch. batch: rows decoded together. dtype: "fp32" or "bf16".

    Raises:
        ValueError: the model does not predict the next token, or has no tokenizer.
    """

    def __init__(
        self,
        model: str | Path | Loaded,
        *,
        max_tokens: int = 256,
        sampling: Sampling = Sampling(),  # noqa: B008  (frozen)
        stop: Sequence[str] = (),
        seed: int = 0,
        batch: int = 16,
        dtype: str = "fp32",
    ) -> None:
        if dtype not in DTYPES:
            raise ValueError(f"dtype {dtype!r} must be fp32 or bf16")
        if batch < 1:
            raise ValueError(f"batch {batch} must be at least 1")
        loaded = model if isinstance(model, Loaded) else load(model)
        _check_predicts(loaded.spec, loaded.path)
        if loaded.tokenizer is None:
            raise ValueError(f"{loaded.path} has no tokenizer.json, so its tokens cannot become text; add the tokenizer")
        self.loaded, self.tokenizer = loaded, loaded.tokenizer
        self.max_tokens, self.sampling, self.stop = max_tokens, sampling, tuple(stop)
        self.seed, self.batch, self.dtype = seed, batch, DTYPES[dtype]
        self.rewrites = getattr(loaded.spec, "encoder", None) is not None

    def stream(self, prompts: Sequence[str], number: int = 1) -> Iterator[tuple[int, str, Generation | None]]:
        """Continue every prompt `number` times; an encoder-decoder takes each for a source, and rewrites it.

        Yields:
            place (prompt index * number + sample), text that has become certain, and with a text's last piece the whole.
        """
        requests = [self._request(p, n) for p in prompts for n in range(number)]
        with self._engine() as engine:
            for place, piece, row in engine.run(requests, self.batch):
                whole = None
                if row.finish is not None:
                    prompt, sample = prompts[place // number], place % number
                    whole = Generation(prompt, row.text, tuple(row.new_ids), row.finish, sample, self.rewrites)
                yield place, piece, whole

    def search(self, prompts: Sequence[str], beam: Beam, number: int = 1) -> Iterator[tuple[int, str, Generation | None]]:
        """The best `number` texts that a beam search finds for every prompt; what it yields is as of `stream`.

        Raises:
            ValueError: more texts than the beam is wide, or stop strings, which only sampling knows.
        """
        if number > beam.width:
            raise ValueError(f"a beam of {beam.width} finds {beam.width} texts, not {number}; ask for a wider one")
        if self.stop:
            raise ValueError("a beam search ends where the model ends its text; leave out the stop strings")
        requests = [self._request(p, 0) for p in prompts]
        with self._engine() as engine:
            for place, found in beam_search(engine, requests, beam, self.batch):
                for sample, each in enumerate(found[:number]):
                    text = self._text(requests[place], each.ids)
                    prompt, at = prompts[place], place * number + sample
                    whole = Generation(prompt, text, each.ids, each.finish, sample, self.rewrites, each.score)
                    yield at, text, whole

    def _text(self, request: Request, ids: tuple[int, ...]) -> str:
        """New tokens as text, in the light of what stands before them."""
        before = list(request.ids[-CONTEXT:])
        return self.tokenizer.decode([*before, *ids])[len(self.tokenizer.decode(before)) :]

    def _request(self, prompt: str, sample: int) -> Request:
        ids, source = prompt_ids(self.tokenizer, prompt), None
        if self.rewrites:
            ids, source = (self.tokenizer.bos_id,), (*self.tokenizer.encode(prompt), self.tokenizer.eos_id)
        return Request(ids, self.max_tokens, self.sampling, row_seed(self.seed, prompt, sample), self.stop, source)

    @contextmanager
    def _engine(self) -> Iterator[Engine]:
        """The model made ready, and put back as it was."""
        model = self.loaded.model
        training = model.training
        model.eval()
        try:
            ready = half_precision(model) if self.dtype == torch.bfloat16 else model
            yield Engine(ready, self.tokenizer, end_ids(self.loaded.path), self.dtype)
        finally:
            model.train(training)

    def __call__(self, prompts: Sequence[str], number: int = 1, beam: Beam | None = None) -> list[Generation]:
        """All texts: prompt by prompt, then sample by sample, or from the best that a beam search found on."""
        stream = self.stream(prompts, number) if beam is None else self.search(prompts, beam, number)
        done = {place: whole for place, _, whole in stream if whole is not None}
        return [done[place] for place in sorted(done)]


def generate(
    model: str | Path | Loaded,
    prompts: str | Sequence[str],
    *,
    max_tokens: int = 256,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
    min_p: float = 0.0,
    seed: int = 0,
    stop: str | Sequence[str] = (),
    number: int = 1,
    batch: int = 16,
    dtype: str = "fp32",
    beam: Beam | int | None = None,
) -> Generation | list[Generation]:
    """Continue one prompt, or several. An encoder-decoder rewrites them: to it they are sources.

    Args:
        model: a run, a Hugging Face folder, or what `genus.load` returned. prompts: a string gives one `Generation` (a list
            when `number` > 1), a sequence a list, prompt by prompt. The other arguments: see `Generator` and `Sampling`.
        beam: search instead of sampling, with a beam of this width, or by the rules of a `Beam`.
    """
    generator = Generator(
        model,
        max_tokens=max_tokens,
        sampling=Sampling(temperature, top_k, top_p, min_p),
        stop=(stop,) if isinstance(stop, str) else stop,
        seed=seed,
        batch=batch,
        dtype=dtype,
    )
    beam = Beam(beam) if isinstance(beam, int) else beam
    texts = generator([prompts] if isinstance(prompts, str) else prompts, number, beam)
    return texts[0] if number == 1 and isinstance(prompts, str) else texts


def prompt_ids(tokenizer: Tokenizer, prompt: str) -> tuple[int, ...]:
    """Tokens of a prompt as the beginning of a document; an empty prompt is the beginning itself."""
    ids = tokenizer.encode(prompt)
    return tuple([tokenizer.bos_id, *ids] if tokenizer.add_bos or not ids else ids)


def row_seed(seed: int, prompt: str, sample: int) -> int:
    """The seed of one text: the same wherever in a file the prompt stands."""
    digest = hashlib.sha256(f"{seed}/{sample}/{prompt}".encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


def end_ids(path: Path) -> tuple[int, ...]:
    """Tokens that `generation_config.json` declares to end a text: chat models have several."""
    for folder in (path / "model", path):
        if (folder / "generation_config.json").is_file():
            value = json.loads((folder / "generation_config.json").read_text(encoding="utf-8")).get("eos_token_id")
            return tuple(value) if isinstance(value, list) else () if value is None else (value,)
    return ()


def _check_predicts(spec: Spec, path: Path) -> None:
    writer = getattr(spec, "stack", spec)
    if any(getattr(part, "causal", True) is False for part in walk(writer)):
        raise ValueError(f"{path} holds an encoder: it sees both sides of a token and cannot continue a prompt")
