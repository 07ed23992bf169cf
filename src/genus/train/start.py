"""Start, continue and finish a run: from names on a command line to a trained model on disk."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from genus.modalities.spelling import spell
from genus.modalities.text import Tokenizer
from genus.modalities.words import WordStarts
from genus.ops.memory import keep_freed_memory
from genus.parts.attention import Attention
from genus.parts.head import Head
from genus.parts.model import Model
from genus.prepare.dataset import Dataset
from genus.recipes import find
from genus.recipes.recipe import Recipe
from genus.recipes.training import Counting, Training
from genus.run import Run, must_be_free
from genus.spec import from_json, walk
from genus.train import choose
from genus.train.average import Average
from genus.train.counting import count, start_counting
from genus.train.loader import First, Loader, Streams, Windows
from genus.train.machine import compute_dtype, default_device, matmul_ceiling
from genus.train.options import TrainOptions
from genus.train.pairs import Pairs
from genus.train.record import compare_threads, same_data, specification, validation_split
from genus.train.replay import Replay, mixed
from genus.train.take_up import take_up
from genus.train.telemetry import Telemetry
from genus.train.trainer import Plan, Progress, Trainer

ACTIVATIONS = 256 * 2**20  # bytes of one block's inner activations: decides the rows of one forward pass
Say = Callable[[str], None]


def start(
    source: str,
    data_path: str | Path,
    out: str | Path,
    options: TrainOptions,
    say: Say = print,
    prediction: dict[str, Any] | None = None,
    replay: Replay | None = None,
    also: Mapping[str, Any] | None = None,
) -> Run:
    """Train `source` on prepared data.

    Args:
        source: a recipe's name, a run, or a folder in Hugging Face layout (continued pre-training).
        out: the run directory, which must not hold a run yet. say: told what was decided and why.
        prediction: what a plan expects of this run; it is written before the first update.
        replay: earlier data, rows of which are mixed in. A budget in passes counts those over the new.
        also: what else run.json is to say.

    Raises:
        ValueError: a wish that cannot be met; the message says what to do.
    """
    keep_freed_memory()
    must_be_free(out)
    if not Path(source).exists() and find(source).counted:
        return start_counting(find(source).name, data_path, out, options, say, prediction)
    data = Dataset.open(data_path)
    _needs_tokens(data, "train")
    device = default_device()
    dtype = compute_dtype(options.dtype, device)
    ceiling = matmul_ceiling(dtype, device)
    say(f"machine: {ceiling / 1e12:.2f} TFLOP/s {_name(dtype)} matrix products on {device.type}")
    if Path(source).exists():
        recipe, model, tokenizer = take_up(Path(source), data, options, say)
        lr = choose.rate(recipe, options, say)
        budget = choose.budget(recipe, options, round(data.split("train").tokens / (1 - replay.share if replay else 1)), say)
        base: str | None = str(source)
    else:
        name = find(source).name
        tokenizer = data.tokenizer.extended(choose.objective(name, options).symbols)
        choice = choose.choose(name, options, tokenizer.vocab_size, data.split("train").tokens, ceiling, say)
        recipe, lr, budget = choice.recipe, choice.lr, choice.budget
        model, base = None, None
    recipe = settle(recipe, tokenizer)
    if recipe.objective.pairs and not data.pairs:
        raise ValueError(
            f"{recipe.name} learns from pairs of texts and {data.root} holds single ones; prepare pairs with "
            "genus prepare --pairs, or choose an objective that makes a source of a text, such as objective=Spans"
        )
    if recipe.objective.pairs:
        budget = _budget_of_pairs(recipe, data, options, say)
    config = specification(
        source,
        recipe,
        data,
        options,
        base=base,
        parameters=recipe.parameters_total,
        lr=lr,
        steps=budget.steps,
        seconds=budget.seconds,
        **({} if replay is None else {"replay": replay.to_json(tokenizer)}),
        **(also or {}),
    )
    run = Run.create(out, config, prediction)
    return _go(run, data, recipe, tokenizer, options, model, ceiling)


def resume(path: str | Path, say: Say = print) -> Run:
    """Continue a run from its newest checkpoint; the result is that of a run never interrupted.

    Raises:
        ValueError: the run is finished, or its data has changed.
    """
    keep_freed_memory()
    run = Run.open(path)
    if run.config.get("finished"):
        raise ValueError(f"{path} is finished; train it further with: genus train {path} DATA -o NEW_RUN")
    data = same_data(run.config)
    compare_threads(run.config, say)
    options, recipe = TrainOptions.from_json(run.config["options"]), from_json(run.config["recipe"])
    if isinstance(recipe.training, Counting):
        return count(run, data, say)
    device = default_device()
    ceiling = matmul_ceiling(compute_dtype(options.dtype, device), device)
    if run.config["base"]:
        _, model, tokenizer = take_up(Path(run.config["base"]), data, options, lambda _: None)
    else:
        model, tokenizer = None, data.tokenizer.extended(recipe.objective.symbols)
    return _go(run, data, recipe, tokenizer, options, model, ceiling, again=True)


def _go(
    run: Run,
    data: Dataset,
    recipe: Recipe,
    tokenizer: Tokenizer,
    options: TrainOptions,
    model: torch.nn.Module | None,
    ceiling: float,
    again: bool = False,
) -> Run:
    split, objective = data.split("train"), recipe.objective
    bytes_per_token = split.bytes / max(1, split.tokens) if objective.likelihood else None
    flops = 3 * objective.flops(recipe.model, recipe.training.context)
    telemetry = Telemetry(run, bytes_per_token, ceiling, flops)
    trainer = assemble(run, data, recipe, options, telemetry, model)
    if again:
        trainer.resume()
    progress = trainer.run()
    finish(run, trainer.model, recipe, tokenizer, progress)
    return run


def settle(recipe: Recipe, tokenizer: Tokenizer) -> Recipe:
    """The recipe with an objective that knows the ids of its symbols.

    Raises:
        ValueError: the model cannot learn it, knows fewer tokens than there are, or is trained as it cannot be.
    """
    _refuse(recipe, tokenizer)
    ids = {"bos": tokenizer.bos_id, "eos": tokenizer.eos_id, "vocab": tokenizer.vocab_size}
    found = {role: tokenizer.role(role) for role in recipe.objective.symbols}
    ids |= {role: number for role, number in found.items() if number is not None}
    return recipe.replace(objective=recipe.objective.settle(ids))


def assemble(
    run: Run, data: Dataset, recipe: Recipe, options: TrainOptions, telemetry: Telemetry, model: torch.nn.Module | None = None
) -> Trainer:
    """The trainer of a run whose `config` knows `lr`, and `steps` or `seconds`. `model`: None = a fresh one, from the seed."""
    training = recipe.training
    assert isinstance(training, Training)
    device = default_device()
    if model is None:
        torch.manual_seed(options.seed)
        model = recipe.model.build(0)
        spell(model, data.tokenizer)
        training.parametrisation.start(model)
    model.to(device)
    train: Loader
    train, validation = loaders(recipe, data, options)
    replay = run.config.get("replay")
    if replay and replay["share"]:
        train = mixed(train, loaders(recipe, same_data({"data": replay}), options)[0], replay["share"])
    micro = min(training.batch, options.micro or max(1, ACTIVATIONS // (16 * training.context * recipe.model.dim)))  # type: ignore[attr-defined]
    plan = Plan(
        lr=run.config["lr"],
        budget=choose.Budget(run.config["steps"], run.config["seconds"]),
        micro=micro,
        dtype=compute_dtype(options.dtype, device),
        seed=options.seed,
        warmup=options.warmup or warmup_updates(training, run.config["steps"]),
        eval_every=options.eval_every,
        eval_steps=_eval_steps(options, validation),
        save_every=options.save_every,
        save_steps=options.save_steps,
        patience=options.patience,
        compile=options.compile,
        average=options.average,
    )
    return Trainer(recipe, model, train, validation, run, plan, telemetry, _bits(data))


def finish(run: Run, model: Any, recipe: Recipe, tokenizer: Tokenizer, progress: Progress) -> None:
    """Write `model/` and close `run.json`."""
    from genus.export import huggingface

    huggingface.save(run.model_dir, model, recipe, tokenizer, context=recipe.training.context)  # type: ignore[attr-defined]
    Average(run.checkpoints_dir, 1).clear()
    last = [r for r in run.metrics() if r.get("kind") == "eval"]
    kept = ("kind", "step", "tokens", "seconds", "split", "targets")
    run.config["finished"] = {
        "steps": progress.step,
        "tokens": progress.tokens,
        "seconds": progress.elapsed,
        "refused_updates": progress.guard.get("total", 0),
        "validation": {k: v for k, v in last[-1].items() if k not in kept} if last else None,
    }
    run.save()


AnyLoader = Windows | Streams | Pairs


def loaders(recipe: Recipe, data: Dataset, options: TrainOptions) -> tuple[AnyLoader, AnyLoader | None]:
    """The training rows, and fixed validation rows of the same kind."""
    training = recipe.training
    assert isinstance(training, Training)
    bos = data.tokenizer.bos_id
    split, whole = data.split("train"), validation_split(data)
    if recipe.objective.pairs:
        held_out = Pairs(whole, training.context, training.batch, bos, shuffle=False) if whole else None
        return Pairs(split, training.context, training.batch, bos, options.seed), held_out
    held = First(whole, options.eval_tokens) if whole else None  # the same tokens, whatever the rows are
    small = max(1, min(training.batch, held.tokens // training.context)) if held else 0
    if training.stream:
        streams = Streams(split, training.context, training.batch, bos, training.restart, options.seed)
        return streams, Streams(held, training.context, small, bos, afresh=training.restart > 0) if held else None
    words = WordStarts(data.tokenizer) if recipe.objective.marks_words else None
    windows = Windows(split, training.context, training.batch, bos, options.seed, words=words)
    return windows, Windows(held, training.context, small, bos, shuffle=False, words=words) if held else None


def _budget_of_pairs(recipe: Recipe, data: Dataset, options: TrainOptions, say: Say) -> choose.Budget:
    """The budget, now that it is known how many targets an update has; says what is left out."""
    train = loaders(recipe, data, options)[0]
    assert isinstance(train, Pairs)
    update = train.targets_per_batch
    say(
        f"batch: {recipe.training.batch} x {recipe.training.context} positions, on average {update:,.0f} targets; "  # type: ignore[attr-defined]
        f"{train.steps_per_epoch:,} updates a pass"
    )
    if train.left_out:
        say(f"{train.left_out:,} pairs are longer than {train.context} positions and left out; --context changes it")
    return choose.budget(recipe, options, data.split("train").tokens, lambda _: None, update)


def _eval_steps(options: TrainOptions, validation: AnyLoader | None) -> int:
    """Batches of one evaluation: `eval_tokens`, or all there is."""
    if validation is None:
        return 0
    if isinstance(validation, Pairs):
        return min(validation.steps_per_epoch, math.ceil(options.eval_tokens / validation.targets_per_batch))
    tokens = min(options.eval_tokens, validation.split.tokens)
    return max(1, tokens // (validation.batch * validation.context))


def _refuse(recipe: Recipe, tokenizer: Tokenizer) -> None:
    model, training = recipe.model, recipe.training
    assert isinstance(model, Model) and isinstance(training, Training)
    if not isinstance(model.head, Head):
        raise ValueError(f"{recipe.name} reads out labels, not tokens: it was tuned; train what it was tuned from")
    if reason := recipe.objective.refusal(model):
        raise ValueError(f"{recipe.name}: {reason}. genus recipes lists all; objective=NAME chooses another objective")
    if model.embed.vocab < tokenizer.vocab_size or any(tokenizer.role(role) is None for role in recipe.objective.symbols):
        needed = tokenizer.extended(recipe.objective.symbols).vocab_size
        raise ValueError(
            f"the model knows {model.embed.vocab:,} tokens and needs {needed:,}: those of the data and the objective's symbols"
        )
    if model.context is not None and model.context < training.context:
        raise ValueError(f"the model has {model.context} learned positions; choose --context {model.context} or less")
    if training.stream and not _history_free(recipe):
        raise ValueError("training.stream=true needs mixers with a constant-size state; attention has none")


def _history_free(recipe: Recipe) -> bool:
    return not any(isinstance(p, Attention) for p in walk(recipe.model))


def warmup_updates(training: Training, steps: int | None) -> int | None:
    """The schedule's share of the run, but at least a few updates, and for their sake never more than a tenth of the run."""
    rise = training.schedule.warmup  # type: ignore[attr-defined]
    if not rise or steps is None:
        return None
    return round(max(rise * steps, min(0.1 * steps, choose.WARMUP_STEPS)))


def _needs_tokens(data: Dataset, split: str) -> None:
    if data.split(split).tokens < 2:
        raise ValueError(f"{data.root} has no tokens in its {split} split; prepare more text")


def _bits(data: Dataset) -> Callable[[float], float]:
    split = validation_split(data) or data.split("train")
    ratio = split.tokens / max(1, split.bytes) / math.log(2)
    return lambda loss: loss * ratio


def _name(dtype: torch.dtype) -> str:
    return "bf16" if dtype == torch.bfloat16 else "fp32"
