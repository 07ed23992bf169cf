"""What a model costs, by arithmetic: parameters, operations, memory and the price of a generated token. And ladders of sizes.

Conventions: an operation is a multiplication or an addition. Attention counts the pairs of positions that see each other, so
causal attention half the square and a sliding window its band; a fast-weight memory counts its reads and writes. A kernel that
works on what it masks, or in chunks, does more; what that costs is measured (`plan.machine.calibrate`), not counted. Training
takes three times the forward pass: the backward pass multiplies each matrix twice.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from genus.ops.cross_entropy import CHUNK_BYTES
from genus.parts.attention import Attention
from genus.parts.char_cnn import CharCNN
from genus.parts.conv import ShortConv
from genus.parts.fast_weights import FastWeights, Sum
from genus.parts.head import Head
from genus.parts.mlp import MLP, Hidden
from genus.parts.model import Model
from genus.parts.moe import MoE
from genus.parts.ngram import NGram
from genus.parts.recurrent import Recurrent
from genus.parts.window import Window
from genus.recipes import find, fit, make, proportioned
from genus.recipes.recipe import Recipe
from genus.recipes.training import SGD, Counting, Training
from genus.spec import Spec
from genus.train.start import ACTIVATIONS

BACKWARD = 2  # operations of the backward pass for each of the forward pass
DEFINITIONS = ("total", "non_embedding", "effective")
ROOM = 0.1  # that a step of a ladder may fall short of the even one
WIDE = 4  # bytes of a float32
LOGITS = 6  # copies of a block of logits that live at once: in both precisions, probabilities, gradients


@dataclass(frozen=True)
class Parameters:
    """How large a model is, said in three ways.

    Attributes:
        total: everything that is trained.
        non_embedding: without token and position tables and without an untied read-out (Kaplan et al. 2020).
        effective: multiply-adds per token of the forward pass that meet a parameter. Look-ups are free, the read-out counts
            also where it is tied, of experts the active ones, of shared layers each use. Vectors (norms, biases) do not.
    """

    total: int
    non_embedding: int
    effective: int


@dataclass(frozen=True)
class Decoding:
    """One generated token at batch 1 after `context` tokens.

    Attributes:
        operations: of the forward pass. read: bytes of weights and state that it reads.
        state: bytes that a conversation of `context` tokens keeps.
    """

    operations: float
    read: float
    state: int


@dataclass(frozen=True)
class Memory:
    """Bytes of training, estimated. `fixed`: weights, gradients, moments. `moving`: activations and logits."""

    fixed: int
    moving: int

    @property
    def total(self) -> int:
        return self.fixed + self.moving


@dataclass(frozen=True)
class Rung:
    """One size of a ladder.

    Attributes:
        wish: parameters asked for. recipe: the shape that came of it, at the ladder's context and batch.
        forward: operations of the forward pass per token.
    """

    wish: int
    recipe: Recipe
    total: int
    non_embedding: int
    effective: int
    forward: float
    decoding: Decoding
    memory: Memory

    @property
    def training(self) -> float:
        """Operations of training per token."""
        return (1 + BACKWARD) * self.forward

    def count(self, definition: str) -> int:
        """Its parameters by one of DEFINITIONS."""
        return int(getattr(self, definition))


def parameters(model: Spec) -> Parameters:
    """The three counts of a model's specification. A counted model has no tables to leave out and multiplies nothing."""
    total = int(model.parameters(0))
    if not isinstance(model, Model):
        return Parameters(total, total, 0)
    tables = model.embed.parameters(model.dim)
    width = model.stack.width(model.dim)
    head = model.head
    readout = head.inner(width) * model.embed.vocab if isinstance(head, Head) and not head.tied else 0
    touched = sum(part.flops(w, 1) - part.mixing(w, 1) for part, w in _layers(model))
    rest = model.flops(length=1) - sum(part.flops(w, 1) for part, w in _layers(model))
    return Parameters(total, total - tables - readout, round((touched + rest) / 2))


def decoding(recipe: Recipe, context: int, itemsize: int = 2) -> Decoding:
    """The price of the token that follows `context` others; weights and state of `itemsize` bytes a number."""
    model = recipe.model
    if not isinstance(model, Model):
        assert isinstance(model, NGram)  # a row of probabilities; the state is the last ids and their documents
        return Decoding(0.0, float(WIDE * model.vocab), 2 * 8 * (model.order - 1))
    effective = parameters(model).effective
    operations, read, state = 2.0 * effective, float(itemsize * effective), 0
    for part, width in _layers(model):
        kept, looked_at = _state(part, width, context, itemsize)
        state, read = state + kept, read + looked_at
        if isinstance(part, Attention):
            operations += 4.0 * part.sizes(width)[1] * min(part.window or context, context)
        else:
            operations += part.mixing(width, 1)
    return Decoding(operations, read, state)


def activations(model: Model, context: int) -> float:
    """Numbers per token that the forward pass keeps for the backward pass, estimated to about a third."""
    spelled = model.embed.spelled
    read = _spelled(spelled) if spelled else 0.0
    return read + sum(_kept(part, width, context) for part, width in _layers(model)) + model.stack.width(model.dim)


def sublayers(model: Model) -> int:
    """How many sublayers a token passes."""
    return sum(1 for _ in _layers(model))


def training_memory(recipe: Recipe, rows: int | None = None, itemsize: int = 2) -> Memory:
    """What training takes beside the process itself.

    Args:
        rows: of one forward pass; None = as `genus train` has it. itemsize: bytes of an activation; weights and optimiser stay
            float32.
    """
    model, training = recipe.model, recipe.training
    if not isinstance(training, Training):
        return Memory(0, training.memory * 2**20)
    assert isinstance(model, Model)
    optimizer = training.optimizer
    copies = 4 - 2 * isinstance(optimizer, SGD) + (isinstance(optimizer, SGD) and optimizer.momentum > 0)
    total = parameters(model).total
    low = itemsize * total if itemsize < WIDE else 0  # the rounded weights that the backward pass multiplies with
    tokens = training.context * (rows_per_pass(recipe) if rows is None else rows)
    logits = LOGITS * min(CHUNK_BYTES, WIDE * tokens * model.embed.vocab)
    return Memory(copies * WIDE * total + low, int(itemsize * tokens * activations(model, training.context)) + logits)


def rows_per_pass(recipe: Recipe) -> int:
    """Rows of one forward pass: those of a batch, or as many as the training step allows a wide model. A stream is not cut."""
    training = recipe.training
    assert isinstance(training, Training) and isinstance(recipe.model, Model)
    if training.stream:
        return training.batch
    return min(training.batch, max(1, ACTIVATIONS // (16 * training.context * recipe.model.dim)))


def sized(name: str, parameters: int, vocab: int, context: int, batch: int | None = None) -> Recipe:
    """The recipe at about `parameters`, in rows of `context`, `batch` of them per update (None = the recipe's own).

    Raises:
        ValueError: no shape has that many parameters.
    """
    recipe = fit(name, parameters, vocab, context=context)
    return recipe.replace(training=recipe.training.replace(context=context, batch=batch or recipe.training.batch))


def rung(recipe: Recipe, wish: int, context: int, itemsize: int = 2) -> Rung:
    """What a recipe of definite shape costs."""
    count = parameters(recipe.model)
    return Rung(
        wish,
        recipe,
        count.total,
        count.non_embedding,
        count.effective,
        forward=0.0 if isinstance(recipe.training, Counting) else float(recipe.model.flops(0, context)),
        decoding=decoding(recipe, context, itemsize),
        memory=training_memory(recipe, itemsize=itemsize),
    )


def ladder(
    recipe: str,
    vocab: int,
    context: int,
    low: float,
    high: float,
    count: int,
    batch: int | None = None,
    itemsize: int = 2,
) -> list[Rung]:
    """At most about `count` sizes from `low` to `high` parameters, in about equal ratios where there are enough, smallest first.

    All have the proportion of width to depth that the recipe's rule aims at, as far as its widths allow. A counted recipe has
    one rung, whose parameters are known after counting.

    Raises:
        ValueError: no shape lies near the range (the vocabulary alone takes more, say), or the range is empty.
    """
    if find(recipe).counted:
        return [rung(make(recipe, vocab=vocab), 0, context, itemsize=itemsize)]
    if not 0 < low <= high or count < 1:
        raise ValueError(f"a ladder needs 0 < low <= high and at least one rung, not {low:g}, {high:g} and {count}")
    counts = proportioned(recipe, vocab, low, high, context=context) or [int(low)]
    apart = (high / counts[0]) ** (1 / max(1, count - 1)) * (1 - ROOM)
    rungs: list[Rung] = []
    for wish in counts if count > 1 else counts[:1]:
        if not rungs or wish >= apart * rungs[-1].total:
            rungs.append(rung(sized(recipe, wish, vocab, context, batch), wish, context, itemsize=itemsize))
    return rungs


def _layers(model: Model) -> Iterator[tuple[Spec, int]]:
    """Every sublayer of every layer, shared ones as often as they run, and the width of its input."""
    for stack in (model.encoder, model.stack):
        for block, width in stack.layers(model.dim) if stack else ():
            for part in block.parts:
                yield part, width
                width = part.width(width)


def _state(part: Spec, width: int, context: int, itemsize: int) -> tuple[int, int]:
    """Bytes of a sublayer's state after `context` tokens, and how many of them the next token reads."""
    if isinstance(part, Attention) and not part.cross:
        row = 2 * part.sizes(width)[2] * itemsize
        return row * min(part.ring or context, context), row * min(part.window or context, context)
    if isinstance(part, FastWeights):
        key, value = part.sizes(width)
        features = part.heads * part.feature.features(key)
        size = WIDE * features * (value + (1 if part.normalise else 0))  # memories are float32 whatever the activations
        size += itemsize * (part.conv.size - 1) * part.heads * (2 * key + value) if part.conv else 0
    elif isinstance(part, Recurrent):
        size = itemsize * (part.width(width) + ((part.hidden or width) if part.cell == "LSTM" else 0))
    elif isinstance(part, Window | ShortConv):
        size = itemsize * (part.size - 1) * width
    else:
        size = 0
    return size, size


def _spelled(part: CharCNN) -> float:
    """Numbers that reading the bytes of one token keeps: windows and answers of the filters, as if no token came twice."""
    windows = sum((part.length - w + 1) * (w * part.chars + f) for w, f in enumerate(part.filters, 1))
    return windows + 6.0 * part.inner * part.highway


def _kept(part: Spec, width: int, context: int) -> float:
    """Numbers per token that a sublayer and its norm keep for the backward pass. The factors were read off real passes."""
    stream = 2.0 * width  # the norm's input and output
    if isinstance(part, Attention):
        _, q, kv = part.sizes(width)
        vectors = 2 * q + 2 * kv + (3 * (q + kv) if part.score.norm else 0)
        scores = 2.5 * context if part.score.softcap else part.reach(context)  # a cap is computed over the whole square
        return stream + vectors + part.heads * scores
    if isinstance(part, FastWeights):
        key, value = part.sizes(width)
        features, chunk = part.feature.features(key), min(part.chunk, context)
        vectors = part.heads * (2 * key + 2 * features + (5 if part.gate else 3) * value)
        memories = part.heads * features * value / chunk  # without the kernel half as much again is kept, of all
        return stream + (vectors if isinstance(part.rule, Sum) else 2 * vectors) + memories
    if isinstance(part, Recurrent):
        return {"RNN": 2.0, "GRU": 6.5, "Cho": 6.5, "LSTM": 15.0}[part.cell] * (part.hidden or width)
    if isinstance(part, MLP):
        return stream + part.inner(width) * (4 if part.gated else 2)
    if isinstance(part, MoE):
        return stream + part.top * (2 * width + part.expert.inner(width) * 4)
    return float(part.outputs if isinstance(part, Hidden) else part.width(width))
