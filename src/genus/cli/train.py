"""`genus train`."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Literal

import tyro
from tyro.conf import Positional


@dataclass(frozen=True)
class Options:
    """Train RECIPE on DATA and write a run directory.

    RECIPE is a name from `genus recipes`, a run, or a folder in Hugging Face layout (continued pre-training).
    DATA is a folder made by `genus prepare`. Sizes are arguments of the recipe, and every field of its tree can be set, as in
    `genus train gpt2 DATA -o RUN dim=128 depth=4 heads=4 model.head.tied=false`; `genus recipes show RECIPE` lists both.
    `training.parametrisation=MuP training.parametrisation.base=128` keeps the best learning rate of width 128 at every width.

    `genus train PLAN` trains what `genus plan` recommends, and `genus train PLAN NAME` another branch of the same plan; the
    prediction is written into the run before it begins.

    A run that was killed goes on with `genus train --resume RUN`; its weights end up the same, bit for bit (for budgets in
    tokens or epochs; a budget in time cannot promise that).
    """

    recipe: Annotated[Positional[str], tyro.conf.arg(metavar="RECIPE")] = ""
    """recipe name, run, model folder, or plan"""
    data: Annotated[Positional[str], tyro.conf.arg(metavar="DATA")] = ""
    """folder made by genus prepare (after a plan: the name of a branch)"""
    overrides: Annotated[Positional[tuple[str, ...]], tyro.conf.arg(metavar="[SIZE=N|PATH=VALUE ...]")] = ()
    """dim=128, depth=4 ... or path=value, any number of times"""
    out: Annotated[Path | None, tyro.conf.arg(aliases=["-o"])] = None
    """run directory to make; default runs/RECIPE"""
    resume: Path | None = None
    """continue this run instead of starting one"""
    size: str | None = None
    """parameters to aim at, such as 10M; default: what the budget affords"""
    tokens: str | None = None
    """training tokens, such as 20M"""
    time: str | None = None
    """training time, such as 90s, 5m or 2h"""
    epochs: float | None = None
    """passes over the data"""
    batch: int | None = None
    """rows per update"""
    micro_batch: int | None = None
    """rows per forward pass; sums of losses make it equal to one large batch"""
    context: int | None = None
    """positions per row"""
    lr: float | None = None
    """peak learning rate"""
    warmup: int | None = None
    """updates over which the learning rate rises; default: a hundredth of the run, at least 20 updates, at most a tenth"""
    optimizer: Literal["recipe", "adamw", "muon", "sgd"] = "recipe"
    """optimiser; `recipe` = the recipe's own"""
    schedule: Literal["recipe", "wsd", "cosine", "constant"] = "recipe"
    """learning-rate schedule; wsd = warm-up, stable, decay"""
    dropout: float | None = None
    """dropout on embeddings, attention and sublayer outputs"""
    seed: int = 0
    """of the weights, the order of the data and dropout"""
    dtype: Literal["auto", "bf16", "fp32"] = "auto"
    """precision of the activations; weights and optimiser stay fp32"""
    compile: bool = False
    """compile the step with torch.compile (needs a C++ compiler; takes about half a minute)"""
    eval_every: str = "60s"
    """time between evaluations"""
    eval_tokens: str = "32k"
    """validation tokens of one evaluation"""
    save_every: str = "5m"
    """time between checkpoints"""
    save_steps: int | None = None
    """also save every so many updates"""
    patience: int = 0
    """stop after so many evaluations without a better loss; 0 = never"""
    average: int = 0
    """keep the mean of the weights at so many points near the end, 2 % of the run apart; 0 = the weights of the end"""
    sample: bool = True
    """write a sample of the trained model into the run"""


def main(options: Options) -> int:
    from genus.plan.execute import execute, is_plan
    from genus.run import PREDICTION
    from genus.spec import from_json
    from genus.train.options import TrainOptions
    from genus.train.start import resume, start
    from genus.train.threads import settle

    settle(say)
    if options.resume is not None:
        if options.recipe or options.data:
            raise ValueError("--resume RUN takes everything from the run; leave out RECIPE and DATA")
        run = resume(options.resume, say)
    elif options.recipe and is_plan(options.recipe):
        _only_out(options)
        run = execute(
            options.recipe, options.out or Path("runs") / Path(options.recipe).resolve().name, options.data or None, say
        )
    else:
        if not options.recipe or not options.data:
            raise ValueError("name a recipe and the data: genus train RECIPE DATA -o RUN (genus recipes lists the recipes)")
        chosen = TrainOptions(
            parameters=None if options.size is None else int(count(options.size)),
            tokens=None if options.tokens is None else int(count(options.tokens)),
            seconds=None if options.time is None else duration(options.time),
            epochs=options.epochs,
            batch=options.batch,
            micro=options.micro_batch,
            context=options.context,
            lr=options.lr,
            warmup=options.warmup,
            optimizer=options.optimizer,
            schedule=options.schedule,
            dropout=options.dropout,
            seed=options.seed,
            dtype=options.dtype,
            compile=options.compile,
            eval_every=duration(options.eval_every),
            eval_tokens=int(count(options.eval_tokens)),
            save_every=duration(options.save_every),
            save_steps=options.save_steps,
            patience=options.patience,
            average=options.average,
            overrides=options.overrides,
        )
        out = options.out or Path("runs") / Path(options.recipe).name
        run = start(options.recipe, options.data, out, chosen, say)
    objective = from_json(run.config["recipe"]).objective
    writes = objective.reads == "past"
    if options.sample and (writes or objective.pairs):
        _sample(run.path, _source(run.config["data"]["path"]) if objective.pairs else "")
    say(f"model: {run.model_dir}")
    if (run.path / PREDICTION).is_file():
        say(f"next: genus plan verify {run.path}")
    use = f"genus generate {run.path} 'Once upon a time'" if writes else f"genus tune {run.path} LABELS -o TUNED"
    use = f"genus generate {run.path} --source TEXT --beam 4" if objective.pairs else use
    say(f"next: genus evaluate {run.path} {run.config['data']['path']}   or: {use}")
    return 0


def _only_out(options: Options) -> None:
    """A plan says how its runs are trained: with anything else its prediction would not be of this run."""
    kept = {"recipe", "data", "out", "sample"}
    changed = [f.name for f in fields(options) if f.name not in kept and getattr(options, f.name) != f.default]
    if changed:
        names = ", ".join(f"--{n.replace('_', '-')}" if n != "overrides" else "overrides" for n in changed)
        raise ValueError(
            f"{options.recipe} is a plan and says how its run is trained; leave out {names}, or train the recipe itself"
        )


def _sample(path: Path, source: str) -> None:
    """Let the trained model write a little, for the report; `source`: what an encoder-decoder rewrites."""
    from genus.generate import generate
    from genus.run import Run

    text = generate(path, source, max_tokens=80, temperature=0 if source else 0.8, seed=0).text  # type: ignore[union-attr]
    text = f"{source} → {text}" if source else text
    run = Run.open(path)
    run.log({"kind": "sample", "step": run.config["finished"]["steps"], "text": text})
    say(f"sample: {' '.join(text.split())[:160]}")


def _source(path: str) -> str:
    """A source that was held out, or one of the training pairs where none was."""
    from genus.prepare.dataset import Dataset
    from genus.train.record import validation_split

    data = Dataset.open(path)
    part = (validation_split(data) or data.split("train")).source
    assert part is not None
    return data.tokenizer.decode(part.document(0).tolist())


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def count(text: str) -> float:
    """`20M`, `1.5k`, `2e6` as a number."""
    match = re.fullmatch(r"([0-9.]+(?:[eE][+-]?[0-9]+)?)([kKmMgGbBtT]?)", text.replace("_", "").replace(",", ""))
    if not match:
        raise ValueError(f"{text!r} is not a number; write 20000, 20k, 1.5M or 2B")
    return float(match[1]) * {"": 1, "k": 1e3, "m": 1e6, "g": 1e9, "b": 1e9, "t": 1e12}[match[2].lower()]


def duration(text: str) -> float:
    """`90s`, `5m`, `2h` or `1h30m` in seconds."""
    parts = re.findall(r"([0-9.]+)([smhd])", text)
    if not parts or "".join(a + b for a, b in parts) != text:
        raise ValueError(f"{text!r} is not a duration; write 90s, 5m, 2h or 1h30m")
    return sum(float(a) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[b] for a, b in parts)
