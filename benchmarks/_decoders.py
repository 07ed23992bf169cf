"""The same model decoded by several libraries: each takes prompts of equal length and adds as many tokens, always the likeliest.

Genus, transformers (generate, with its growing and its static cache), llama-cpp-python (the calls of llama.cpp itself, so that
nothing of Python stands between two steps but the choice of the token) and ctranslate2. A library that is not installed, or does
not take the model, is left out with a message. On a GPU: Genus in bf16 with CUDA graphs and without, and transformers, which
compiles its step with the static cache.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch

from genus.export import huggingface
from genus.generate.engine import Engine
from genus.generate.replay import Replays
from genus.generate.sampling import Sampling
from genus.generate.sequence import Request
from genus.generate.weights import describe_paths, ready
from genus.modalities.text import Tokenizer
from genus.prepare.tokenizer import words
from genus.recipes import make
from genus.spec import Spec

Prompts = Sequence[Sequence[int]]
DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}


@dataclass(frozen=True)
class Shape:
    """Sizes of a model; `hidden` is the inner width of the gated layer, the plain one takes 4 x dim."""

    recipe: str
    depth: int
    dim: int
    heads: int
    vocab: int
    context: int = 1024
    hidden: int = 0

    def spec(self) -> Spec:
        sizes = {"dim": self.dim, "depth": self.depth, "heads": self.heads, "vocab": self.vocab, "context": self.context}
        return make(self.recipe, **sizes, **({"hidden": self.hidden} if self.hidden else {})).model  # type: ignore[no-any-return]


SHAPES = {
    "gpt2": Shape("gpt2", 12, 768, 12, 50257),
    "llama": Shape("llama", 12, 768, 12, 32000, hidden=2048),
    "tiny": Shape("gpt2", 2, 256, 4, 1024),  # to try the script itself
}


@dataclass(frozen=True)
class Decoder:
    """One way to decode.

    Attributes:
        bits: of a weight, about. bytes: of weights that every step reads (a table that is only looked up is left out).
        run: prompts and number of new tokens -> how many tokens were made.
    """

    name: str
    bits: int
    bytes: int
    run: Callable[[Prompts, int], int]


@dataclass(frozen=True)
class Model:
    """Random weights, in Genus and in a Hugging Face folder."""

    module: Any
    tokenizer: Tokenizer
    folder: Path

    @classmethod
    def make(cls, shape: Shape, folder: Path, device: torch.device) -> Model:
        torch.manual_seed(0)
        spec = shape.spec()
        module = spec.build(0).eval()
        tokenizer = words(f"w{i}" for i in range(shape.vocab - 2))  # beside the unknown word and the end
        huggingface.save(folder, module, spec, tokenizer, context=shape.context, dtype="bf16")
        return cls(module.to(device), tokenizer, folder)

    @property
    def device(self) -> torch.device:
        return next(self.module.parameters()).device  # type: ignore[no-any-return]


def genus(model: Model, dtypes: Sequence[str]) -> Iterator[Decoder]:
    gpu = model.device.type == "cuda"
    for weights, bits in (("bf16", 16),) if gpu else (("bf16", 16), ("int8", 8), ("int4", 4)):
        module = ready(model.module, weights)
        size = sum(p.bytes for p in describe_paths(module) if p.path not in ("lookup", ""))
        for dtype in dtypes:
            engine = Engine(module, model.tokenizer, dtype=DTYPES[dtype])

            def run(prompts: Prompts, new: int, engine: Engine = engine) -> int:
                requests = [Request(tuple(p), new, Sampling(0.0)) for p in prompts]
                return sum(len(row.new_ids) for _, _, row in engine.run(requests, len(requests)) if row.finish is not None)

            label = "" if len(dtypes) == 1 else f", {dtype} between"
            yield Decoder(f"genus {weights}{label}", bits, size, run)
            if gpu:
                yield Decoder(f"genus {weights}{label}, no graphs", bits, size, partial(_unrecorded, run))


def _unrecorded(run: Callable[[Prompts, int], int], prompts: Prompts, new: int) -> int:
    with patch.object(Replays, "takes", return_value=False):
        return run(prompts, new)


def transformers(model: Model, threads: int) -> Iterator[Decoder]:
    from transformers import AutoModelForCausalLM

    loaded = AutoModelForCausalLM.from_pretrained(model.folder, dtype=torch.bfloat16).eval().to(model.device)
    tied = loaded.config.tie_word_embeddings
    loaded.generation_config.eos_token_id = None  # every text has the length that was asked for
    size = sum(
        p.nbytes
        for name, p in loaded.named_parameters()
        if p.dim() == 2 and ((tied and "wte" in name) or "emb" not in name) and "wpe" not in name
    )
    for label, cache in ((" bf16", None), (" bf16, static cache", "static")):

        @torch.inference_mode()
        def run(prompts: Prompts, new: int, cache: str | None = cache) -> int:
            ids = torch.tensor(prompts, device=model.device)
            out = loaded.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=new,
                do_sample=False,
                cache_implementation=cache,
                pad_token_id=0,
            )
            return len(out[:, ids.shape[1] :].flatten().tolist())  # they come to the processor

        yield Decoder(f"transformers{label}", 16, size, run)


def ctranslate2(model: Model, threads: int) -> Iterator[Decoder]:
    import ctranslate2 as library
    from ctranslate2.converters import TransformersConverter

    target = model.folder.with_name("ctranslate2")
    TransformersConverter(str(model.folder)).convert(str(target), quantization="int8", force=True)
    generator = library.Generator(str(target), device="cpu", compute_type="int8", intra_threads=threads)
    names = [model.tokenizer.core.id_to_token(i) for i in range(model.tokenizer.vocab_size)]

    def run(prompts: Prompts, new: int) -> int:
        done = generator.generate_batch(
            [[names[i] for i in p] for p in prompts],
            max_length=new,
            min_length=new,
            sampling_topk=1,
            include_prompt_in_result=False,
        )
        return sum(len(d.sequences_ids[0]) for d in done)

    yield Decoder("ctranslate2 int8", 8, (target / "model.bin").stat().st_size - _lookups(model, 1), run)


def _lookups(model: Model, width: int) -> int:
    """Bytes of tables that are not multiplied, at `width` bytes a number."""
    module = model.module
    tables = [
        p for name, p in module.named_parameters() if name.startswith("embed.") and p is not module.head.weight and p.dim() == 2
    ]
    return width * sum(p.numel() for p in tables)


def llama_cpp(model: Model, threads: int) -> Iterator[Decoder]:
    import llama_cpp as library
    from benchmarks._gguf import write

    whole = model.folder.with_name("model-bf16.gguf")
    write(model.folder, whole)
    library.llama_log_set(_silent(library), None)
    library.llama_backend_init()
    for name, kind, bits in (
        ("bf16", None, 16),
        ("q8_0", library.LLAMA_FTYPE_MOSTLY_Q8_0, 8),
        ("q4_K_M", library.LLAMA_FTYPE_MOSTLY_Q4_K_M, 4),
    ):
        file = whole.with_name(f"model-{name}.gguf")
        if kind is not None:
            parameters = library.llama_model_quantize_default_params()
            parameters.ftype, parameters.nthread = kind, threads
            if library.llama_model_quantize(str(whole).encode(), str(file).encode(), parameters):
                print(f"llama.cpp {name}: left out, it could not be quantised")
                continue
        yield Decoder(f"llama.cpp {name}", bits, _gguf_bytes(file), LlamaCpp(library, file, threads))


_kept: list[Any] = []  # callbacks that C holds


def _silent(library: Any) -> Any:
    _kept.append(library.llama_log_callback(lambda *_: None))
    return _kept[-1]


def _gguf_bytes(file: Path) -> int:
    from gguf import GGUFReader

    tensors = {t.name: int(t.n_bytes) for t in GGUFReader(str(file)).tensors}
    looked_up = {"position_embd.weight", *(["token_embd.weight"] if "output.weight" in tensors else [])}
    return sum(size for name, size in tensors.items() if name not in looked_up)


class LlamaCpp:
    """A model and a context of llama.cpp, with a sequence for each prompt."""

    def __init__(self, library: Any, file: Path, threads: int, rows: int = 32, room: int = 640) -> None:
        self.c = library
        self.model = library.llama_model_load_from_file(str(file).encode(), library.llama_model_default_params())
        if not self.model:
            raise ValueError(f"llama.cpp does not read {file}")
        self.rows, self.room, self.threads = rows, room, threads
        self.vocab = library.llama_vocab_n_tokens(library.llama_model_get_vocab(self.model))
        self.contexts: dict[tuple[int, int], Any] = {}
        self.batch = library.llama_batch_init(2048, 0, 1)

    def _context(self, rows: int, room: int) -> Any:
        """A context made for so many sequences: one that is larger than needed would cost it time."""
        if (rows, room) not in self.contexts:
            p = self.c.llama_context_default_params()
            p.n_ctx, p.n_seq_max, p.n_batch, p.n_ubatch = rows * room, rows, 2048, 512
            p.n_threads = p.n_threads_batch = self.threads
            self.contexts[rows, room] = self.c.llama_init_from_model(self.model, p)
        return self.contexts[rows, room]

    def __call__(self, prompts: Prompts, new: int) -> int:
        rows, length = len(prompts), len(prompts[0])
        context = self._context(rows, -(-(length + new) // 256) * 256)
        self.c.llama_memory_clear(self.c.llama_get_memory(context), True)
        tokens = [(token, at, row) for row, prompt in enumerate(prompts) for at, token in enumerate(prompt)]
        made = 0
        for step in range(new):
            wanted = self._decode(context, tokens, last=length + step - 1)
            chosen = [int(self._logits(context, i).argmax()) for i in wanted]
            made += len(chosen)
            tokens = [(token, length + step, row) for row, token in enumerate(chosen)]
        return made

    def _decode(self, context: Any, tokens: list[tuple[int, int, int]], last: int) -> list[int]:
        batch = self.batch
        batch.n_tokens = len(tokens)
        for i, (token, at, row) in enumerate(tokens):
            batch.token[i], batch.pos[i], batch.n_seq_id[i], batch.logits[i] = token, at, 1, at == last
            batch.seq_id[i][0] = row
        if self.c.llama_decode(context, batch):
            raise RuntimeError("llama.cpp could not decode")
        return [i for i, (_, at, _) in enumerate(tokens) if at == last]

    def _logits(self, context: Any, i: int) -> Any:
        return np.ctypeslib.as_array(self.c.llama_get_logits_ith(context, i), (self.vocab,))


PEERS: dict[str, Callable[[Model, int], Iterator[Decoder]]] = {
    "transformers": transformers,
    "llama-cpp-python": llama_cpp,
    "ctranslate2": ctranslate2,
}


def contestants(
    shape: Shape, folder: Path, dtypes: Sequence[str], peers: Sequence[str], threads: int, device: torch.device
) -> list[Decoder]:
    """Genus and every peer that can be had."""
    model = Model.make(shape, folder / "model", device)
    found = list(genus(model, dtypes))
    for name in peers:
        try:
            found += PEERS[name](model, threads)
        except ImportError as error:
            print(f"{name}: left out, it is not installed ({error.name}); pip install -e '.[bench]'")
        except Exception as error:
            print(f"{name}: left out, {type(error).__name__}: {str(error).strip()[:200]}")
    shutil.rmtree(folder / "ctranslate2", ignore_errors=True)
    return found
