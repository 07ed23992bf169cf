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
    from genus.tune.labeller import Labeller

BYTES = 4  # of a parameter while it is read
FILES = (".safetensors", ".npy", ".json", ".jinja")  # that a model consists of
ABILITIES = {
    "complete": "continue a text (/v1/completions)",
    "rewrite": "write a text from a source (/v1/completions)",
    "chat": "converse (/v1/chat/completions)",
    "embed": "give vectors of texts (/v1/embeddings)",
    "classify": "do the task that it was tuned for (/v1/classify)",
}

Version = tuple[tuple[str, int, int], ...]
"""Name, time of the last change and size of every file that a model consists of; nothing where there is no model yet."""


@dataclass(frozen=True)
class Entry:
    """What is known of a model before it is loaded.

    Attributes:
        name: what clients call it. path: the run or folder. recipe: its name, if it has one. abilities: of ABILITIES.
        parameters: how many. context: tokens that it was made for; None = any number. bytes: that loading takes, about.
        created: seconds since 1970. looks: whether it has attention or fast weights, whose weights can be shown.
        step: updates that a run has seen which is not finished; None of a finished model. version: of the files.
    """

    name: str
    path: Path
    recipe: str
    abilities: frozenset[str]
    parameters: int
    context: int | None
    bytes: int
    created: int
    looks: bool
    step: int | None
    version: Version

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


def version(path: Path) -> Version:
    """What the files of a run or model folder are now: of its model, or else of its newest checkpoint.

    Raises:
        OSError: they are being replaced at this moment.
    """
    from genus.run import CONFIG, Run
    from genus.train.checkpoint import complete

    run = Run(path, {})
    folder = run.model_dir if (path / CONFIG).is_file() else path
    if not (folder / "config.json").is_file():
        checkpoints = complete(run.checkpoints_dir)
        if not checkpoints:
            return ()
        folder = checkpoints[-1]
    files = sorted(file for file in folder.iterdir() if file.suffix in FILES)
    return tuple((f"{folder.name}/{file.name}", told.st_mtime_ns, told.st_size) for file in files for told in [file.stat()])


def describe(name: str, path: Path) -> Entry:
    """What the files of a run or model folder say; the weights are not read.

    Raises:
        FileNotFoundError: the run has neither a model nor a checkpoint yet. ValueError: it is of an unknown kind, its weights
            are pickled, or it has no tokenizer.
    """
    from genus.export import huggingface
    from genus.export.tokens import read_tokenizer
    from genus.parts.attention import Attention
    from genus.parts.fast_weights import FastWeights
    from genus.parts.model import Model
    from genus.parts.source_context import Additive
    from genus.run import model_folder
    from genus.spec import walk
    from genus.train.unfinished import unfinished

    now, young = version(path), unfinished(path)
    config: dict[str, Any] = {}
    if young is not None:
        folder, recipe, tokenizer = young.checkpoint, young.recipe, young.tokenizer
    else:
        folder, config = model_folder(path)
        recipe, tokenizer = huggingface.describe(folder), read_tokenizer(folder, huggingface.read_config(folder))
    if tokenizer is None:
        raise ValueError(f"{folder} has no tokenizer.json, so nobody could talk with it; add the tokenizer")
    spec: Any = recipe.model
    parameters = spec.parameters(0) if isinstance(spec, Model) else 0
    stored = sum(file.stat().st_size for file in folder.iterdir() if file.suffix in (".safetensors", ".npy"))
    return Entry(
        name,
        path,
        recipe.name,
        abilities=_abilities(spec, config, bool(tokenizer.chat_template)),
        parameters=parameters,
        context=getattr(spec, "context", None) or getattr(recipe.training, "context", None),
        bytes=BYTES * parameters or stored,
        created=int((folder / ("config.json" if young is None else "state.json")).stat().st_mtime),
        looks=any(isinstance(part, Attention | FastWeights | Additive) for part in walk(spec)),
        step=None if young is None else young.step,
        version=now,
    )


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


def _loaded(entry: Entry) -> Loaded:
    """The model itself: the finished one, as soon as there is one."""
    from genus.run import load as read
    from genus.train.unfinished import unfinished

    young = unfinished(entry.path)
    return read(entry.path) if young is None else young.load()


def _reader(entry: Entry, settings: Settings) -> Served:
    """A model that gives vectors, or does a task."""
    import torch

    from genus.train.machine import default_device
    from genus.tune.labeller import Labeller

    loaded = _loaded(entry)
    labeller = None
    if "classify" in entry.abilities:
        labeller = Labeller.load(loaded)
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
    from genus.train.machine import default_device

    loaded = _loaded(entry)
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
    from genus.parts.task_head import Vectors
    from genus.spec import walk

    head = getattr(loaded.spec, "head", None)
    if isinstance(head, Vectors) and head.longest is not None:
        return head.longest
    return entry.context if any(isinstance(part, Attention) for part in walk(loaded.spec)) else None


def _bytes(model: Any) -> int:
    """What the tensors of a model take, packed ones too."""
    from genus.ops.packed import Packed

    held: dict[int, int] = {id(t): t.numel() * t.element_size() for t in (*model.parameters(), *model.buffers())}
    for module in model.modules():
        held |= {id(value): value.bytes for value in vars(module).values() if isinstance(value, Packed)}
    return sum(held.values())
