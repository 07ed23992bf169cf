"""Start, continue and finish a run: from names on a command line to a trained model on disk."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from genus.modalities.spelling import spell
from genus.ops.memory import keep_freed_memory
from genus.parts.attention import Attention
from genus.parts.model import Model
from genus.prepare.dataset import Dataset
from genus.recipes import find
from genus.recipes.recipe import Recipe
from genus.recipes.training import Counting, Training
from genus.run import Run, load, must_be_free
from genus.spec import from_json, walk
from genus.train import choose
from genus.train.counting import count, start_counting
from genus.train.loader import First, Streams, Windows
from genus.train.machine import compute_dtype, default_device, matmul_ceiling
from genus.train.options import TrainOptions
from genus.train.record import same_data, specification, validation_split
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
) -> Run:
    """Train `source` on prepared data.

    Args:
        source: a recipe's name, a run, or a folder in Hugging Face layout (continued pre-training).
        out: the run directory, which must not hold a run yet. say: told what was decided and why.
        prediction: what a plan expects of this run; it is written before the first update.

    Raises:
        ValueError: a wish that cannot be met; the message says what to do.
    """
    keep_freed_memory()
    must_be_free(out)
    if not Path(source).exists():
        system = find(source)
        if system.counted:
            return start_counting(system.name, data_path, out, options, say, prediction)
        if not system.generates:
            raise _not_causal(system.name)
    data = Dataset.open(data_path)
    _needs_tokens(data, "train")
    device = default_device()
    dtype = compute_dtype(options.dtype, device)
    ceiling = matmul_ceiling(dtype, device)
    say(f"machine: {ceiling / 1e12:.2f} TFLOP/s {_name(dtype)} matrix products on {device.type}")
    if Path(source).exists():
        recipe, model = take_up(Path(source), data, options, say)
        lr = choose.rate(recipe, options, say)
        budget = choose.budget(recipe, options, data.split("train").tokens, say)
        base: str | None = str(source)
    else:
        choice = choose.choose(find(source).name, options, data.vocab_size, data.split("train").tokens, ceiling, say)
        recipe, lr, budget = choice.recipe, choice.lr, choice.budget
        model, base = None, None
    _refuse(recipe, data)
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
    )
    run = Run.create(out, config, prediction)
    return _go(run, data, recipe, options, model, ceiling, say)


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
    options, recipe = TrainOptions.from_json(run.config["options"]), from_json(run.config["recipe"])
    if isinstance(recipe.training, Counting):
        return count(run, data, say)
    device = default_device()
    ceiling = matmul_ceiling(compute_dtype(options.dtype, device), device)
    model = None
    if run.config["base"]:
        model = take_up(Path(run.config["base"]), data, options, lambda _: None)[1]
    return _go(run, data, recipe, options, model, ceiling, say, again=True)


def _go(
    run: Run,
    data: Dataset,
    recipe: Recipe,
    options: TrainOptions,
    model: torch.nn.Module | None,
    ceiling: float,
    say: Say,
    again: bool = False,
) -> Run:
    split = data.split("train")
    flops = 3 * recipe.model.flops(0, recipe.training.context)  # type: ignore[attr-defined]
    telemetry = Telemetry(run, split.bytes / max(1, split.tokens), ceiling, flops)
    trainer = assemble(run, data, recipe, options, telemetry, model)
    if again:
        trainer.resume()
    progress = trainer.run()
    finish(run, trainer.model, recipe, data, progress)
    return run


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
    train, validation = loaders(recipe, data, options)
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
    )
    return Trainer(recipe, model, train, validation, run, plan, telemetry, _bits(data))


def finish(run: Run, model: Any, recipe: Recipe, data: Dataset, progress: Progress) -> None:
    """Write `model/` and close `run.json`."""
    from genus.export import huggingface

    huggingface.save(run.model_dir, model, recipe, data.tokenizer, context=recipe.training.context)  # type: ignore[attr-defined]
    last = [r for r in run.metrics() if r.get("kind") == "eval"]
    run.config["finished"] = {
        "steps": progress.step,
        "tokens": progress.tokens,
        "seconds": progress.elapsed,
        "refused_updates": progress.guard.get("total", 0),
        "validation": {k: last[-1][k] for k in ("loss", "bpb")} if last else None,
    }
    run.save()


def loaders(recipe: Recipe, data: Dataset, options: TrainOptions) -> tuple[Windows | Streams, Windows | Streams | None]:
    """The training rows, and fixed validation rows of the same kind."""
    training = recipe.training
    assert isinstance(training, Training)
    bos = data.tokenizer.bos_id
    split, whole = data.split("train"), validation_split(data)
    held = First(whole, options.eval_tokens) if whole else None  # the same tokens, whatever the rows are
    small = max(1, min(training.batch, held.tokens // training.context)) if held else 0
    if training.stream:
        streams = Streams(split, training.context, training.batch, bos, training.restart, options.seed)
        return streams, Streams(held, training.context, small, bos, afresh=training.restart > 0) if held else None
    windows = Windows(split, training.context, training.batch, bos, options.seed)
    return windows, Windows(held, training.context, small, bos, shuffle=False) if held else None


def _eval_steps(options: TrainOptions, validation: Windows | Streams | None) -> int:
    """Batches of one evaluation: `eval_tokens`, or all there is."""
    if validation is None:
        return 0
    tokens = min(options.eval_tokens, validation.split.tokens)
    return max(1, tokens // (validation.batch * validation.context))


def take_up(path: Path, data: Dataset, options: TrainOptions, say: Say) -> tuple[Recipe, torch.nn.Module]:
    """A trained model that goes on learning: its recipe with the options applied, and itself.

    Raises:
        ValueError: it is counted, was made for another tokenizer, or the options change its shape.
    """
    loaded = load(path)
    if not isinstance(loaded.spec, Model):
        raise ValueError(f"{path} holds a model that is counted, not descended; train an n-gram on the new data instead")
    if loaded.tokenizer is None or loaded.tokenizer.fingerprint != data.tokenizer.fingerprint:
        raise ValueError(
            f"{data.root} was prepared with another tokenizer than {path} uses; prepare it again with --tokenizer {path}"
        )
    spec = loaded.config.get("recipe")
    recipe = from_json(spec) if spec else Recipe(name=path.name)
    recipe = choose.adjust(recipe.replace(model=loaded.spec), options)
    if recipe.model != loaded.spec:
        loaded_model = recipe.model.build(0)
        _same_weights(loaded_model, loaded.model)
    else:
        loaded_model = loaded.model
    say(f"model: continued from {path}, {recipe.parameters_total:,} parameters")
    return recipe, loaded_model


def _same_weights(new: torch.nn.Module, old: torch.nn.Module) -> None:
    """Move weights into a model whose spec differs in values that own no weight (dropout, say)."""
    try:
        new.load_state_dict(old.state_dict())
    except RuntimeError as error:
        raise ValueError("the overrides change the shape of the model that is continued; leave its shape as it is") from error


def _refuse(recipe: Recipe, data: Dataset) -> None:
    if isinstance(recipe.model, Model) and not _causal(recipe.model):
        raise _not_causal(recipe.name)
    if isinstance(recipe.model, Model):
        if recipe.model.embed.vocab < data.vocab_size:
            raise ValueError(f"the model knows {recipe.model.embed.vocab:,} tokens and the data has {data.vocab_size:,}")
        limit, context = recipe.model.context, recipe.training.context  # type: ignore[attr-defined]
        if limit is not None and limit < context:
            raise ValueError(f"the model has {limit} learned positions; choose --context {limit} or less, not {context}")
    if isinstance(recipe.training, Training) and recipe.training.stream:
        stateful = _history_free(recipe)
        if not stateful:
            raise ValueError("training.stream=true needs mixers with a constant-size state; attention has none")


def _causal(model: Model) -> bool:
    """Whether no position sees a later one, so that the model can learn to predict the next token."""
    return model.encoder is None and all(p.causal or p.cross for p in walk(model) if isinstance(p, Attention))


def _not_causal(name: str) -> ValueError:
    return ValueError(
        f"{name} sees the whole text at once, so it cannot be trained to predict the next token. "
        "Choose a decoder, recurrent, window or fast-weights recipe (genus recipes)"
    )


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
