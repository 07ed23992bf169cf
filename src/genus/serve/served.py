"""A model that is served: what can be known of it from its files, and what it is once it is loaded."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from genus.serve.calls import CallFormat
from genus.serve.errors import invalid
from genus.serve.settings import Settings
from genus.serve.worker import Worker

if TYPE_CHECKING:
    import torch

    from genus.modalities.chat import Chat
    from genus.modalities.text import Tokenizer
    from genus.run import Loaded
    from genus.tune.predict import Labeller

BYTES = 4  # of a parameter while it is read
ABILITIES = {
    "complete": "continue a text (/v1/completions)",
    "rewrite": "write a text from a source (/v1/completions)",
    "chat": "converse (/v1/chat/completions)",
    "embed": "give vectors of texts (/v1/embeddings)",
    "classify": "do the task that it was tuned for (/v1/classify)",
}


@dataclass(frozen=True)
class Entry:
    """What is known of a model before it is loaded.

    Attributes:
        name: what clients call it. path: the run or folder. recipe: its name, if it has one. abilities: of ABILITIES.
        parameters: how many. context: tokens that it was made for; None = any number. bytes: that loading takes, about.
        created: seconds since 1970.
    """

    name: str
    path: Path
    recipe: str
    abilities: frozenset[str]
    parameters: int
    context: int | None
    bytes: int
    created: int

    def must(self, *abilities: str) -> None:
        """Check that it has one of these abilities.

        Raises:
            Refused: it has none of them; the message says what it can do.
        """
        if self.abilities.isdisjoint(abilities):
            can = ", ".join(ABILITIES[each] for each in ABILITIES if each in self.abilities) or "do nothing that is served"
            raise invalid(f"the model {self.name!r} cannot do this; it can {can}", "model", "model_not_able")


@dataclass
class Served:
    """A loaded model.

    Attributes:
        loaded: the model itself; only its worker's thread may compute with it. worker: the thread. bytes: of its weights.
        dtype: precision of the activations. ends: tokens that end a text. limit: tokens that it can see at once while it writes.
        reads: tokens of a text whose vector is asked for. Both None = any number. labeller: of a model that does a task.
    """

    entry: Entry
    loaded: Loaded
    worker: Worker
    bytes: int
    dtype: torch.dtype
    ends: frozenset[int] = frozenset()
    limit: int | None = None
    reads: int | None = None
    labeller: Labeller | None = None

    @property
    def tokenizer(self) -> Tokenizer:
        assert self.loaded.tokenizer is not None, "a model without a tokenizer is not served"
        return self.loaded.tokenizer

    @cached_property
    def chat(self) -> Chat:
        """Its way with conversations."""
        from genus.modalities.chat import Chat

        return Chat(self.tokenizer)

    @cached_property
    def calls(self) -> CallFormat | None:
        """How its chat template writes the call of a function; None when it has no place for one."""
        return CallFormat.of(self.chat)


def describe(name: str, path: Path) -> Entry:
    """What the files of a run or model folder say; the weights are not read.

    Raises:
        FileNotFoundError: the run has no model yet. ValueError: it is of an unknown kind, its weights are pickled, or it has
            no tokenizer.
    """
    from genus.export import huggingface
    from genus.modalities.text import Tokenizer
    from genus.parts.model import Model
    from genus.run import CONFIG, Run

    config: dict[str, Any] = {}
    folder = path
    if (path / CONFIG).is_file():
        run = Run.open(path)
        config, folder = run.config, run.model_dir
        if not (folder / "config.json").is_file():
            raise FileNotFoundError(f"{path} has no finished model yet; continue it with: genus train --resume {path}")
    recipe = huggingface.describe(folder)
    if not (folder / "tokenizer.json").is_file():
        raise ValueError(f"{folder} has no tokenizer.json, so nobody could talk with it; add the tokenizer")
    template = Tokenizer.load(folder).chat_template
    spec = recipe.model
    parameters = spec.parameters(0) if isinstance(spec, Model) else 0
    stored = sum(file.stat().st_size for file in folder.iterdir() if file.suffix in (".safetensors", ".npy"))
    context = getattr(spec, "context", None) or getattr(recipe.training, "context", None)
    created = int((folder / "config.json").stat().st_mtime)
    abilities = _abilities(spec, config, bool(template))
    return Entry(name, path, recipe.name, abilities, parameters, context, BYTES * parameters or stored, created)


def _abilities(spec: Any, config: dict[str, Any], template: bool) -> frozenset[str]:
    import genus.tune.tasks  # noqa: F401  (registers every task)
    from genus.parts.head import Head
    from genus.parts.model import Model
    from genus.spec import from_json, walk
    from genus.tune.writing import WritingTask

    network = isinstance(spec, Model)
    found = {"embed"} if network else set()
    sees_ahead = any(getattr(part, "causal", True) is False for part in walk(getattr(spec, "stack", spec)))
    if not sees_ahead and (not network or isinstance(spec.head, Head)):
        rewrites = network and spec.encoder is not None
        found.add("rewrite" if rewrites else "complete")
        if template and not rewrites:
            found.add("chat")
    if "task" in config and not isinstance(from_json(config["task"]), WritingTask):
        found.add("classify")
    return frozenset(found)


def load(entry: Entry, settings: Settings) -> Served:
    """Read a model, make it ready, and give it a thread.

    Raises:
        ValueError, OSError: the files are not what they should be.
    """
    writes = not entry.abilities.isdisjoint(("complete", "rewrite"))
    return _writer(entry, settings) if writes else _reader(entry, settings)


def _reader(entry: Entry, settings: Settings) -> Served:
    """A model that gives vectors, or does a task."""
    import torch

    from genus.run import load as read
    from genus.train.machine import default_device
    from genus.tune.predict import Labeller

    loaded = read(entry.path)
    labeller = None
    if "classify" in entry.abilities:
        labeller = Labeller.load(entry.path)
        loaded = dataclasses.replace(loaded, model=labeller.model)
    model = loaded.model.to(default_device()).eval()
    worker = Worker(entry.name, waiting=settings.limits.waiting)
    return Served(entry, loaded, worker, _bytes(model), torch.float32, reads=_reads(entry, loaded), labeller=labeller)


def _writer(entry: Entry, settings: Settings) -> Served:
    """A model that writes texts."""
    import torch

    from genus.generate.engine import Engine
    from genus.generate.scheduler import Scheduler
    from genus.generate.texts import end_ids
    from genus.generate.weights import ready
    from genus.modalities.chat import Chat
    from genus.run import load as read
    from genus.train.machine import default_device

    loaded = read(entry.path)
    model = ready(loaded.model.to(default_device()).eval(), settings.weights)
    tokenizer = loaded.tokenizer
    assert tokenizer is not None, "a model without a tokenizer is not served"
    ends = frozenset(end_ids(entry.path))
    if "chat" in entry.abilities:
        ends |= Chat(tokenizer).ends
    dtype = torch.bfloat16 if settings.weights == "bf16" else torch.float32
    engine = Engine(model, tokenizer, ends, dtype)

    def scheduler() -> Scheduler:
        return Scheduler(
            engine,
            slots=settings.slots,
            memory=settings.state_bytes,
            waiting=settings.limits.waiting,
            prefixes=settings.prefixes,
        )

    loaded = dataclasses.replace(loaded, model=model)
    worker = Worker(entry.name, scheduler, settings.limits.waiting)
    return Served(entry, loaded, worker, _bytes(model), dtype, engine.ends, engine.limit, _reads(entry, loaded))


def _reads(entry: Entry, loaded: Loaded) -> int | None:
    """Tokens of a text that the model was made to see at once; any number without attention."""
    from genus.parts.attention import Attention
    from genus.spec import walk

    return entry.context if any(isinstance(part, Attention) for part in walk(loaded.spec)) else None


def _bytes(model: Any) -> int:
    """What the tensors of a model take, packed ones too."""
    from genus.ops.packed import Packed

    held: dict[int, int] = {id(t): t.numel() * t.element_size() for t in (*model.parameters(), *model.buffers())}
    for module in model.modules():
        held |= {id(value): value.bytes for value in vars(module).values() if isinstance(value, Packed)}
    return sum(held.values())
