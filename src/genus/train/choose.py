"""From a user's wish and the data to a recipe of a definite shape, with every derived number in the open."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from genus.objectives.objective import Objective
from genus.parts.attention import Attention
from genus.parts.block import Block
from genus.parts.embedding import Embedding
from genus.recipes import arguments, find, fit, make, shape
from genus.recipes.recipe import Recipe
from genus.recipes.sizes import takes
from genus.recipes.training import (
    AdamW,
    Constant,
    Cosine,
    Muon,
    Optimizer,
    Training,
    WarmupStableDecay,
    adamw_rate,
)
from genus.spec import Spec, apply_overrides, override, rewrite
from genus.train.options import TrainOptions, split_overrides
from genus.train.trainer import Budget

CONTEXT = 256  # default positions per row: what a CPU trains well on
TOKENS_PER_PARAMETER = 20  # Hoffmann et al. 2022
PASSES = 4  # repeated data is almost as good as new data up to here (Muennighoff et al. 2023)
EFFICIENCY = 0.35  # share of the matmul ceiling that is assumed before anything is measured
SMALLEST, LARGEST = 100_000, 50_000_000
WARMUP_STEPS = 20  # at least
UPDATES = 1000  # that a run should have, if the rows of its batch allow it
FEWEST_ROWS = 8  # of a batch: fewer leave the matrix products too thin

SHAPE_FIELDS = ("model.dim", "model.stack")
Say = Callable[[str], None]


@dataclass(frozen=True)
class Choice:
    """The recipe in its final shape, its peak learning rate and its budget."""

    recipe: Recipe
    lr: float
    budget: Budget


def choose(name: str, options: TrainOptions, vocab: int, tokens: int, ceiling: float, say: Say) -> Choice:
    """Settle size, budget and learning rate for a recipe on data of `tokens` training tokens.

    Args:
        ceiling: operations per second that the machine multiplies matrices with. say: told each derived number with its formula.
    """
    recipe = _shaped(name, options, vocab, tokens, ceiling, say)
    recipe = adjust(recipe, options)
    recipe = recipe.training.parametrisation.rewrite(recipe)  # type: ignore[attr-defined]
    say(f"model: {name}, {shape(recipe)}")
    recipe = _batched(recipe, options, tokens, ceiling, say)
    lr = rate(recipe, options, say)
    return Choice(recipe, lr, budget(recipe, options, tokens, say))


def objective(name: str, options: TrainOptions) -> Objective:
    """What the recipe is to learn, with the options applied: known before its size is, which depends on the vocabulary."""
    sizes, fields = split_overrides(options.overrides)
    own = [field for field in fields if field.startswith("objective")]
    return apply_overrides(make(name, **arguments(name, sizes)), own).objective  # type: ignore[no-any-return]


def adjust(recipe: Recipe, options: TrainOptions) -> Recipe:
    """Apply batch, context, optimiser, schedule, dropout and the `path=value` overrides."""
    training = recipe.training
    if isinstance(training, Training):
        changes: dict[str, Any] = {"context": context(recipe, options)}
        if options.batch:
            changes["batch"] = options.batch
        if options.optimizer != "recipe":
            decay = training.optimizer.weight_decay  # type: ignore[attr-defined]
            changes["optimizer"] = {"adamw": AdamW(weight_decay=decay), "muon": Muon(weight_decay=decay)}.get(
                options.optimizer
            ) or override(training, "optimizer", "SGD").optimizer
        if options.schedule != "recipe":
            changes["schedule"] = {"wsd": WarmupStableDecay(), "cosine": Cosine(), "constant": Constant()}[options.schedule]
        recipe = recipe.replace(training=training.replace(**changes))
    if options.dropout is not None:
        recipe = recipe.replace(model=with_dropout(recipe.model, options.dropout))
    return apply_overrides(recipe, split_overrides(options.overrides)[1])  # type: ignore[no-any-return]


def with_dropout(model: Spec, p: float) -> Spec:
    """Dropout on embeddings, attention weights and the outputs of sublayers, everywhere in the tree."""

    def change(part: Spec) -> Spec:
        return part.replace(dropout=p) if isinstance(part, Block | Embedding | Attention) else part

    return rewrite(model, change)  # type: ignore[no-any-return]


def context(recipe: Recipe, options: TrainOptions) -> int:
    """Positions per row: the user's, else the recipe's but at most CONTEXT."""
    return options.context or min(recipe.training.context, CONTEXT)  # type: ignore[attr-defined]


def _shaped(name: str, options: TrainOptions, vocab: int, tokens: int, ceiling: float, say: Say) -> Recipe:
    sizes_given, fields = split_overrides(options.overrides)
    given = arguments(name, sizes_given)
    length = options.context or given.get("context") or context(make(name, vocab=vocab), options)
    pad = {"pad": None} if "pad" in takes(find(name)) else {}  # a tokenizer of ours pads with an id after the text's
    sizes = {"vocab": vocab, **pad, **given, "context": length}
    if options.parameters:
        return fit(name, options.parameters, **sizes)
    if given or any(f.startswith(SHAPE_FIELDS) for f in fields):
        return make(name, **sizes)
    return fit_or_smallest(name, _affordable(options, tokens, ceiling, say), sizes)


def fit_or_smallest(name: str, wish: int, sizes: dict[str, int]) -> Recipe:
    """The shape nearest to `wish`, growing the wish until the vocabulary leaves room for a network."""
    for _ in range(40):
        try:
            return fit(name, wish, **sizes)
        except ValueError:
            wish = int(wish * 1.25)
    return fit(name, wish, **sizes)


def _affordable(options: TrainOptions, tokens: int, ceiling: float, say: Say) -> int:
    """Parameters N such that the budget trains them on about 20 N tokens."""
    if options.seconds:
        operations = EFFICIENCY * ceiling * options.seconds
        wish = math.sqrt(operations / (6 * TOKENS_PER_PARAMETER))
        reason = f"sqrt({EFFICIENCY} x {ceiling:.2g} operations/s x {options.seconds:.0f} s / (6 x {TOKENS_PER_PARAMETER}))"
    else:
        budget = options.tokens or (options.epochs or PASSES) * tokens
        wish, reason = budget / TOKENS_PER_PARAMETER, f"{budget:,.0f} training tokens / {TOKENS_PER_PARAMETER}"
    bounded = int(min(max(wish, SMALLEST), LARGEST))
    say(f"size: no --size given, aiming at {bounded:,} parameters = {reason}, kept between {SMALLEST:,} and {LARGEST:,}")
    return bounded


def _batched(recipe: Recipe, options: TrainOptions, tokens: int, ceiling: float, say: Say) -> Recipe:
    """Fewer rows per update where the budget would give the recipe's batch too few updates to learn in."""
    training: Training = recipe.training
    chosen = options.batch or training.sum_over_time or any(o.startswith("training.batch=") for o in options.overrides)
    if chosen or training.batch <= FEWEST_ROWS:
        return recipe
    if options.seconds:
        expected = EFFICIENCY * ceiling * options.seconds / (3 * recipe.objective.flops(recipe.model, training.context))
    else:
        expected = _wanted(recipe, options, tokens)
    rows = int(min(training.batch, max(FEWEST_ROWS, expected / (UPDATES * training.context))))
    if rows < training.batch:
        updates = expected / (rows * training.context)
        why = f"so that about {expected:,.0f} tokens make about {updates:,.0f} updates"
        say(f"batch: {rows} rows of {training.context} instead of {training.batch}, {why}")
    return recipe.replace(training=training.replace(batch=rows))


def rate(recipe: Recipe, options: TrainOptions, say: Say) -> float:
    """Peak learning rate: the user's, the recipe's, or Kaplan's rule."""
    optimizer = recipe.training.optimizer  # type: ignore[attr-defined]
    assert isinstance(optimizer, Optimizer)
    if options.lr is not None or optimizer.lr is not None:
        return options.lr or optimizer.lr or 0.0
    n = recipe.training.parametrisation.rate_parameters(recipe)  # type: ignore[attr-defined]
    lr = adamw_rate(n)
    where = "" if n == recipe.parameters_total else ", for the size at the base width"
    say(f"learning rate: {lr:.2e} = 0.003239 - 0.0001395 ln {n:,}{where} (Kaplan et al. 2020)")
    return lr


def budget(recipe: Recipe, options: TrainOptions, tokens: int, say: Say, update: float | None = None) -> Budget:
    """Seconds, or a number of updates. `update`: tokens of one; None = those of a full batch."""
    if options.seconds is not None:
        return Budget(seconds=options.seconds)
    wanted = _wanted(recipe, options, tokens)
    if not (options.tokens or options.epochs):
        say(f"tokens: no budget given, {wanted:,} = min({TOKENS_PER_PARAMETER} x parameters, {PASSES} passes over the data)")
    return Budget(steps=max(1, round(wanted / (update or recipe.training.batch * recipe.training.context))))


def _wanted(recipe: Recipe, options: TrainOptions, tokens: int) -> int:
    """Training tokens of a budget that is not in seconds."""
    if options.tokens:
        return options.tokens
    if options.epochs:
        return int(options.epochs * tokens)
    return min(TOKENS_PER_PARAMETER * recipe.parameters_total, PASSES * tokens)
