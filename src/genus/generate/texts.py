"""From prompts to texts: what `genus.generate(...)` and the command line call."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from genus.generate.beam import Beam, beam_search, text_of
from genus.generate.constraint import Constraint
from genus.generate.engine import Engine
from genus.generate.sampling import Choice, Sampling
from genus.generate.sequence import Request
from genus.generate.sequence import Sequence as Row
from genus.generate.speculative import Speculative
from genus.generate.weights import WEIGHTS, ready
from genus.modalities.text import Tokenizer
from genus.run import Loaded, load
from genus.spec import Spec, walk
from genus.train.machine import default_device

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


@dataclass(frozen=True)
class Generation:
    """A continued prompt.

    Attributes:
        prompt, text: what was given, and what the model added. ids: the added tokens, an end token included.
        finish: "end" (the model ended its document), "stop" (at a stop string) or "length". sample: 0, 1, ... of this prompt.
        rewritten: the prompt is a source that the text was made from, and is not continued. score: what the best texts were
            chosen by: of a beam search its own, else the mean log-probability of a token.
        choices: the added tokens with their log-probabilities, where they were asked for.
    """

    prompt: str
    text: str
    ids: tuple[int, ...]
    finish: str
    sample: int = 0
    rewritten: bool = False
    score: float | None = None
    choices: tuple[Choice, ...] = ()

    def __str__(self) -> str:
        return self.text if self.rewritten else self.prompt + self.text


class Generator:
    """A loaded model with its rules for generating; reuse it for many prompts.

    Args:
        model: a run, a Hugging Face folder, or what `genus.load` returned. What is loaded here runs on the GPU where there is
            one, and a loaded model where it lies.
        max_tokens: most tokens to add. sampling: how a token is chosen. stop: strings that end a text and are left out.
        seed: a text depends on this, on its prompt and on its sample number, and on nothing else: not on its neighbours in
            the batch. batch: rows decoded together. constraint: what every text must look like.
        dtype: of the arithmetic, "fp32" or "bf16". weights: how they are stored, "fp32", "bf16", "int8" or "int4"; None = as
            `dtype`. A copy in another form than the model's is made once.
        draft: a smaller model with the same tokenizer, which proposes `draft_tokens` tokens at a time (`speculative`).

    Raises:
        ValueError: the model does not predict the next token, or has no tokenizer; or the draft has another one.
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
        weights: str | None = None,
        constraint: Constraint | None = None,
        draft: str | Path | Loaded | None = None,
        draft_tokens: int = 4,
    ) -> None:
        if dtype not in DTYPES:
            raise ValueError(f"dtype {dtype!r} must be fp32 or bf16")
        if batch < 1:
            raise ValueError(f"batch {batch} must be at least 1")
        loaded = model if isinstance(model, Loaded) else placed(load(model), default_device())
        _check_predicts(loaded.spec, loaded.path)
        if loaded.tokenizer is None:
            raise ValueError(f"{loaded.path} has no tokenizer.json, so its tokens cannot become text; add the tokenizer")
        self.loaded, self.tokenizer = loaded, loaded.tokenizer
        self.max_tokens, self.sampling, self.stop, self.constraint = max_tokens, sampling, tuple(stop), constraint
        self.seed, self.batch, self.dtype = seed, batch, DTYPES[dtype]
        self.rewrites = getattr(loaded.spec, "encoder", None) is not None
        self._draft = None if draft is None else self._fitting(draft)
        self._draft_tokens = draft_tokens
        self._weights = dtype if weights is None else weights
        if self._weights not in WEIGHTS:
            raise ValueError(f"weights {weights!r} must be one of {', '.join(WEIGHTS)}")
        self._copies: dict[Any, Any] = {}
        self._engines: dict[Any, tuple[Any, Engine]] = {}  # by model and ends: what its weights were, and the engine
        self._decoder: Speculative | None = None

    def stream(self, prompts: Sequence[str], number: int = 1) -> Iterator[tuple[int, str, Generation | None]]:
        """Continue every prompt `number` times; an encoder-decoder takes each for a source, and rewrites it.

        Yields:
            place (prompt index * number + sample), text that has become certain, and with a text's last piece the whole.
        """
        requests = [self._request(p, n) for p in prompts for n in range(number)]
        for place, piece, row in self._run(requests):
            whole = None if row.finish is None else self.whole(prompts[place // number], row, place % number)
            yield place, piece, whole

    def best(self, prompts: Sequence[str], number: int, of: int) -> Iterator[tuple[int, str, Generation | None]]:
        """The best `number` of `of` sampled texts of every prompt: those with the highest mean log-probability of a token, as
        OpenAI's `best_of`. What it yields is as of `stream`, each text in one piece.

        Raises:
            ValueError: fewer texts to choose from than wanted.
        """
        if of < number:
            raise ValueError(f"of {of} texts the best {number} cannot be chosen; sample at least {number}")
        asked = self.sampling.logprobs
        scored = replace(self.sampling, logprobs=asked or 0)
        requests = [replace(self._request(p, n), sampling=scored) for p in prompts for n in range(of)]
        found: dict[int, list[Generation]] = {}
        for place, _, row in self._run(requests):
            if row.finish is None:
                continue
            at, log_ps = place // of, [choice.log_p or 0.0 for choice in row.choices]
            whole = replace(self.whole(prompts[at], row, place % of), score=sum(log_ps) / len(log_ps))
            found.setdefault(at, []).append(whole if asked is not None else replace(whole, choices=()))
            if len(found[at]) == of:
                ranked = sorted(found.pop(at), key=lambda each: (-(each.score or 0.0), each.sample))
                for rank, each in enumerate(ranked[:number]):
                    yield at * number + rank, each.text, replace(each, sample=rank)

    def search(self, prompts: Sequence[str], beam: Beam, number: int = 1) -> Iterator[tuple[int, str, Generation | None]]:
        """The best `number` texts that a beam search finds for every prompt; what it yields is as of `stream`.

        Raises:
            ValueError: more texts than the beam is wide, or rules that only sampling knows.
        """
        if number > beam.width:
            raise ValueError(f"a beam of {beam.width} finds {beam.width} texts, not {number}; ask for a wider one")
        if self.stop:
            raise ValueError("a beam search ends where the model ends its text; leave out the stop strings")
        s = self.sampling
        if self.constraint is not None or s != Sampling(s.temperature, s.top_k, s.top_p, s.min_p, logprobs=s.logprobs):
            raise ValueError("a beam search knows no constraint, bias or penalty; leave them out, or sample instead")
        if s.logprobs is not None:
            raise ValueError("a beam search reports no log-probabilities of tokens; leave them out, or sample instead")
        requests = [self._request(p, 0) for p in prompts]
        with self.engine() as engine:
            for place, found in beam_search(engine, requests, beam, self.batch):
                for sample, each in enumerate(found[:number]):
                    text = text_of(self.tokenizer, requests[place], each.ids)
                    prompt, at = prompts[place], place * number + sample
                    whole = Generation(prompt, text, each.ids, each.finish, sample, self.rewrites, each.score)
                    yield at, text, whole

    @property
    def guessed(self) -> tuple[int, int]:
        """How many tokens the draft proposed for the texts that were made last, and how many of them were kept."""
        return (0, 0) if self._decoder is None else (self._decoder.proposed, self._decoder.kept)

    def _run(self, requests: Sequence[Request]) -> Iterator[tuple[int, str, Row]]:
        with self.engine() as engine:
            yield from engine.run(requests, self.batch, self.decoder())

    def whole(self, prompt: str, row: Row, sample: int) -> Generation:
        """A finished row as a generation of this prompt."""
        assert row.finish is not None
        choices = () if row.request.sampling.logprobs is None else tuple(row.choices)
        return Generation(prompt, row.text, tuple(row.new_ids), row.finish, sample, self.rewrites, choices=choices)

    def _request(self, prompt: str, sample: int) -> Request:
        ids, source = prompt_ids(self.tokenizer, prompt), None
        if self.rewrites:
            ids, source = (self.tokenizer.bos_id,), (*self.tokenizer.encode(prompt), self.tokenizer.eos_id)
        seed = row_seed(self.seed, prompt, sample)
        return Request(ids, self.max_tokens, self.sampling, seed, self.stop, source, self.constraint)

    @contextmanager
    def engine(self) -> Iterator[Engine]:
        """The model made ready, and put back as it was."""
        model = self.loaded.model
        training = model.training
        try:
            yield self.prepared()
        finally:
            model.train(training)

    def prepared(self, ends: Iterable[int] = ()) -> Engine:
        """The model as an engine, from now on in evaluation mode. `ends`: further tokens that end a text."""
        return self._engine(self.loaded.model, frozenset({*ends, *end_ids(self.loaded.path)}))

    def decoder(self) -> Speculative | None:
        """How a scheduler gets tokens: of the draft, where there is one; else None."""
        if self._draft is not None:
            self._decoder = Speculative(self._engine(self._draft.model, frozenset()), self._draft_tokens)
        return self._decoder

    def _engine(self, model: Any, ends: frozenset[int]) -> Engine:
        """One for all calls, with the steps that it has recorded, until the weights are others."""
        ready = self._ready(model.eval())
        tensors = (*ready.parameters(), *ready.buffers())
        weights = [(t.data_ptr(), None if t.is_inference() else t._version) for t in tensors]
        known = self._engines.get((model, ends))
        if known is None or known[0] != weights:
            known = weights, Engine(ready, self.tokenizer, ends, self.dtype)
            self._engines[model, ends] = known
        return known[1]

    def _ready(self, model: Any) -> Any:
        if self._weights == "fp32":
            return model
        if model not in self._copies:
            self._copies[model] = ready(model, self._weights)
        return self._copies[model]

    def _fitting(self, draft: str | Path | Loaded) -> Loaded:
        """Raises ValueError: a draft that cannot propose tokens to this model."""
        device = next(iter([*self.loaded.model.parameters(), *self.loaded.model.buffers()])).device
        found = draft if isinstance(draft, Loaded) else placed(load(draft), device)
        _check_predicts(found.spec, found.path)
        if found.tokenizer is None or found.tokenizer.fingerprint != self.tokenizer.fingerprint:
            raise ValueError(
                f"the draft {found.path} has another tokenizer than {self.loaded.path}, and must cut texts into the same tokens: "
                f"train it on data made with genus prepare --tokenizer {self.loaded.path}"
            )
        if getattr(found.spec, "encoder", None) is not None and not self.rewrites:
            raise ValueError(f"the draft {found.path} reads a source, and {self.loaded.path} has none to give it")
        return found

    def __call__(self, prompts: Sequence[str], number: int = 1, beam: Beam | None = None) -> list[Generation]:
        """All texts: prompt by prompt, then sample by sample, or from the best that a beam search found on."""
        return gathered(self.stream(prompts, number) if beam is None else self.search(prompts, beam, number))


def placed(loaded: Loaded, device: torch.device) -> Loaded:
    """The same model on a device; one that only counted stays where it is."""
    if hasattr(loaded.model, "decode"):
        loaded.model.to(device)
    return loaded


def gathered(stream: Iterator[tuple[int, str, Generation | None]]) -> list[Generation]:
    """The whole texts of a stream in order."""
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
    repetition_penalty: float = 1.0,
    frequency_penalty: float = 0.0,
    presence_penalty: float = 0.0,
    logit_bias: Mapping[int, float] | None = None,
    logprobs: int | None = None,
    seed: int = 0,
    stop: str | Sequence[str] = (),
    constraint: Constraint | None = None,
    draft: str | Path | Loaded | None = None,
    draft_tokens: int = 4,
    number: int = 1,
    best_of: int | None = None,
    beam: Beam | int | None = None,
    batch: int = 16,
    dtype: str = "fp32",
    weights: str | None = None,
) -> Generation | list[Generation]:
    """Continue one prompt, or several. An encoder-decoder rewrites them: to it they are sources.

    Args:
        model: a run, a Hugging Face folder, or what `genus.load` returned. prompts: a string gives one `Generation` (a list
            when `number` > 1), a sequence a list, prompt by prompt. The other arguments: see `Generator` and `Sampling`.
        best_of: sample so many texts of every prompt and return the best `number`.
        beam: search instead of sampling, with a beam of this width, or by the rules of a `Beam`.
    """
    bias = tuple((logit_bias or {}).items())
    penalties = (repetition_penalty, frequency_penalty, presence_penalty)
    generator = Generator(
        model,
        max_tokens=max_tokens,
        sampling=Sampling(temperature, top_k, top_p, min_p, *penalties, bias, logprobs),
        stop=(stop,) if isinstance(stop, str) else stop,
        seed=seed,
        batch=batch,
        dtype=dtype,
        weights=weights,
        constraint=constraint,
        draft=draft,
        draft_tokens=draft_tokens,
    )
    listed = [prompts] if isinstance(prompts, str) else prompts
    if best_of is not None and beam is not None:
        raise ValueError("the best of several samples, or of a beam search? give best_of or beam, not both")
    if best_of is not None:
        texts = gathered(generator.best(listed, number, best_of))
    else:
        texts = generator(listed, number, Beam(beam) if isinstance(beam, int) else beam)
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
