"""Does the best learning rate stay where it is when the model grows wider? Standard against MuP, over a grid of factors of two.

    python -m benchmarks.mup                                        # llama, three widths: about five minutes on one core
    python -m benchmarks.mup --recipe lstm --steps 400 --seeds 3

tiny-shakespeare as characters, from $GENUS_DATA or ../shared/data; without it, words of a made-up language. Every model sees the
same rows in the same order; the loss is that of held-out rows after the whole schedule. Widths are multiples of 32, the width of
a head. The first width is the base, where the two policies are one and the same.
"""

from __future__ import annotations

import json
import math
import os
import random
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import tyro
from torch import Tensor

from genus import recipes
from genus.recipes.parametrisation import MuP, Parametrisation, Standard
from genus.recipes.recipe import Recipe
from genus.recipes.sizes import takes
from genus.recipes.training import AdamW, Muon
from genus.spec import apply_overrides
from genus.train import optimizer
from genus.train.machine import describe

DATA = Path(os.environ.get("GENUS_DATA", "../shared/data"))
HELD = 32  # rows that are evaluated


@dataclass(frozen=True)
class Options:
    """What to run.

    Attributes:
        rates: exponents of two, lowest and highest. seeds: of the weights and the rows. threads: of torch.
        overrides: fields of the recipe, such as `model.init.std=0.04`.
        json: also write the results there.
    """

    recipe: str = "llama"
    optimizer: Literal["adamw", "muon"] = "adamw"
    widths: tuple[int, ...] = (64, 128, 256)
    depth: int = 2
    rates: tuple[int, int] = (-11, -4)
    steps: int = 150
    batch: int = 16
    context: int = 32
    seeds: int = 1
    overrides: tuple[str, ...] = ()
    threads: int = 1
    json: Path | None = None


def corpus() -> tuple[str, Tensor]:
    """What it is, and its characters as ids."""
    path = DATA / "tinyshakespeare" / "input.txt"
    if path.is_file():
        name, text = "tiny-shakespeare", path.read_text(encoding="utf-8")
    else:
        dice = random.Random(0)
        words = ["".join(dice.choices("abcdefghijklmnopqrstuvwxyz", k=dice.randint(2, 9))) for _ in range(2000)]
        weights = [1 / rank for rank in range(1, 2001)]
        name, text = "made-up words", " ".join(dice.choices(words, weights, k=150_000))
    ids = {c: i for i, c in enumerate(sorted(set(text)))}
    return name, torch.tensor([ids[c] for c in text])


def rows(ids: Tensor, count: int, context: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    start = torch.randint(0, len(ids) - context - 1, (count, 1), generator=generator)
    taken = ids[start + torch.arange(context + 1)]
    return taken[:, :-1], taken[:, 1:]


def shape(options: Options, width: int, vocab: int) -> Recipe:
    given = {"dim": width, "depth": options.depth, "heads": width // 32, "vocab": vocab, "context": options.context}
    accepted = takes(recipes.find(options.recipe))
    recipe = recipes.make(options.recipe, **{k: v for k, v in given.items() if k in accepted})
    return apply_overrides(recipe, options.overrides)  # type: ignore[no-any-return]


def final_loss(recipe: Recipe, policy: Parametrisation, lr: float, ids: Tensor, options: Options, seed: int) -> float:
    """Held-out loss in nats per character after the whole schedule; infinite where it diverged."""
    torch.manual_seed(seed)
    recipe = policy.rewrite(recipe)
    model: Any = recipe.model.build(0)
    policy.start(model)
    optimizers = optimizer.build(Muon() if options.optimizer == "muon" else AdamW(), model, lr, policy)
    cut, dice = int(0.9 * len(ids)), torch.Generator().manual_seed(seed)
    for step in range(options.steps):
        inputs, targets = rows(ids[:cut], options.batch, options.context, dice)
        schedule = recipe.training.schedule
        optimizer.set_rate(optimizers, lr * max(schedule.at(schedule.moment(step / options.steps, rise=0.1)), 0.01))
        total, count = model.head.loss(model.hidden(inputs), targets)
        for o in optimizers:
            o.zero_grad()
        (total / count).backward()
        optimizer.step(optimizers, optimizer.gradient_norm(model.parameters()).clamp(min=1.0))
    with torch.no_grad():
        inputs, targets = rows(ids[cut:], HELD, options.context, torch.Generator().manual_seed(12345))
        total, count = model.head.loss(model.hidden(inputs), targets)
    loss = float(total / count)
    return loss if math.isfinite(loss) else math.inf


def best(exponents: list[int], losses: list[float]) -> float:
    """Exponent of the lowest loss, by a parabola through the three points around it where there are three."""
    i = int(np.argmin(losses))
    if i in (0, len(losses) - 1) or not all(map(math.isfinite, losses[i - 1 : i + 2])):
        return float(exponents[i])
    a, b, c = losses[i - 1 : i + 2]
    return exponents[i] + 0.5 * (a - c) / (a - 2 * b + c)


def main(options: Options) -> None:
    torch.set_num_threads(options.threads)
    name, ids = corpus()
    exponents = list(range(options.rates[0], options.rates[1] + 1))
    print(f"{describe()['device']}, {options.threads} threads, torch {torch.__version__}")
    print(
        f"{options.recipe}, {options.depth} layers, {name}: {options.steps} updates of {options.batch} x {options.context}",
        *options.overrides,
    )
    print(
        f"{'':<22}"
        + "".join(f"{f'2^{e}':>8}" for e in exponents)
        + f"{'best':>9}{'loss':>8}{'loss at the best rate of the base':>36}"
    )
    base, began, records = options.widths[0], time.perf_counter(), []
    for policy in (Standard(), MuP(base)):
        kept: int | None = None
        for width in options.widths:
            recipe = shape(options, width, int(ids.max()) + 1)
            runs = [[final_loss(recipe, policy, 2.0**e, ids, options, seed) for seed in range(options.seeds)] for e in exponents]
            losses = [sum(r) / len(r) for r in runs]
            kept = int(np.argmin(losses)) if kept is None else kept
            top = best(exponents, losses)
            print(
                f"{type(policy).__name__:<10}width {width:<6}"
                + "".join(f"{loss:>8.3f}" for loss in losses)
                + f"{f'2^{top:.1f}':>9}{min(losses):>8.3f}{losses[kept]:>20.3f} ({losses[kept] - min(losses):+.3f})",
                flush=True,
            )
            records.append({"policy": type(policy).__name__, "width": width, "losses": losses, "best": top})
    print(f"{time.perf_counter() - began:.0f} s")
    if options.json:
        found = {"machine": describe(), "torch": torch.__version__, "options": asdict(options), "exponents": exponents}
        options.json.write_text(json.dumps({**found, "results": records}, indent=1, default=str))


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
