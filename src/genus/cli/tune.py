"""`genus tune`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro
from tyro.conf import Positional

from genus.cli.train import count, duration, say


@dataclass(frozen=True)
class Options:
    """Tune BASE on LABELS and write a run directory.

    BASE is a run, a folder in Hugging Face layout, or a recipe's name (training from the labels alone; its sizes may follow, as
    in `genus tune bert LABELS -o RUN dim=128 depth=2 heads=2`). LABELS is a .jsonl, .json, .csv, .tsv or .parquet file with named
    columns (also .gz, .zst), or a Hugging Face datasets folder. The task is told from the columns and their values, and printed
    with the reason; --task, --text, --pair and --label say otherwise.

    Where no rows to judge on are given (--test), each seed learns from some of the rows, stops by others, and is judged on the
    rest; the table shows mean and spread beside baselines that need no model. The model that is kept then learns from all rows.

    Where LABELS is a folder made by `genus prepare`, the model goes on learning from unlabelled text (continued pre-training)
    for --tokens, --time or --epochs; with --replay rows of earlier data are mixed in, and both are measured before and after.

    A run that was interrupted goes on with `genus tune --resume RUN`; fits that were done are not done again.
    """

    base: Annotated[Positional[str], tyro.conf.arg(metavar="BASE")] = ""
    """run, model folder or recipe name"""
    labels: Annotated[Positional[str], tyro.conf.arg(metavar="LABELS")] = ""
    """file of labelled rows, datasets folder, or prepared data"""
    overrides: Annotated[Positional[tuple[str, ...]], tyro.conf.arg(metavar="[SIZE=N|PATH=VALUE ...]")] = ()
    """of a recipe: dim=128, depth=2 ... or path=value, any number of times"""
    out: Annotated[Path | None, tyro.conf.arg(aliases=["-o"])] = None
    """run directory to make; default runs/LABELS"""
    resume: Path | None = None
    """continue this run instead of starting one"""
    task: str | None = None
    """classification, regression, tagging, questions, sequence or conversation; default: told from the columns"""
    text: str | None = None
    """column that is read"""
    pair: str | None = None
    """column of a second text: a hypothesis, the question about a context"""
    label: str | None = None
    """column of the label, number, tags, answer or target text"""
    validation: str | None = None
    """rows that choose the best update; default: cut from LABELS"""
    test: str | None = None
    """rows that only judge; default: cut from LABELS, anew for each seed"""
    method: str = "full"
    """full, lora, dora, or frozen (only a new read-out learns)"""
    rank: int = 8
    """of LoRA and DoRA"""
    alpha: float = 16.0
    """of LoRA and DoRA: the change is scaled by alpha / rank"""
    targets: tuple[str, ...] = ()
    """matrices that LoRA and DoRA change; default: all inside the layers"""
    layer_decay: float = 1.0
    """factor on the learning rate for each layer further down, with --method full"""
    compare: bool = False
    """measure the other ways of using the labels too, in the same table"""
    unlabelled: str | None = None
    """prepared data: the tokenizer of a recipe is taken from it"""
    epochs: float | None = None
    """passes over the rows; default: 300 updates, but 3 to 20 passes (a recipe: 1000 updates, 5 to 40)"""
    batch: int | None = None
    """rows of an update; default: 8, 16 or 32, by the number of rows"""
    lr: float | None = None
    """peak learning rate; default: by the size of the model, and higher ones tried on validation rows"""
    dropout: float | None = None
    """default 0.1"""
    context: int | None = None
    """tokens of a text that are read; default: the model's positions, at most 512"""
    seeds: int | None = None
    """how often everything is repeated; default 3, with --folds 1"""
    folds: int = 0
    """cross-validation: every row judges once; default: repeated splits"""
    seed: int = 0
    """first seed"""
    patience: int = 8
    """evaluations without improvement after which a fit stops; 0 = never"""
    refit: bool = True
    """train the model that is kept on all labelled rows; otherwise the best seed's is kept"""
    tokens: str | None = None
    """of unlabelled text to learn from, such as 2M"""
    time: str | None = None
    """to learn from unlabelled text, such as 10m"""
    replay: str | None = None
    """earlier prepared data, so that what the model knew does not fade"""
    replay_share: float = 0.1
    """of the rows that come from it; 0 = only measure it"""
    eval_tokens: str = "32k"
    """of each corpus that one evaluation reads"""
    dtype: Literal["auto", "bf16", "fp32"] = "auto"
    """precision of the activations; weights and optimiser stay fp32"""
    save_every: str = "5m"
    """time between checkpoints"""


def main(options: Options) -> int:
    from genus.train.threads import settle
    from genus.tune.options import TuneOptions
    from genus.tune.tuning import resume, tune

    settle(say)
    if options.resume is not None:
        if options.base or options.labels:
            raise ValueError("--resume RUN takes everything from the run; leave out BASE and LABELS")
        run = resume(options.resume, say)
    else:
        if not options.base or not options.labels:
            raise ValueError("name a base and the labels: genus tune BASE LABELS -o RUN")
        written = ("save_every", "tokens", "time", "eval_tokens")
        given = {k: v for k, v in vars(options).items() if k not in ("base", "labels", "out", "resume", *written)}
        chosen = TuneOptions(
            **given,
            save_every=duration(options.save_every),
            tokens=None if options.tokens is None else int(count(options.tokens)),
            seconds=None if options.time is None else duration(options.time),
            eval_tokens=int(count(options.eval_tokens)),
        )
        out = options.out or Path("runs") / Path(options.labels).name.split(".")[0]
        run = tune(options.base, options.labels, out, chosen, say)
    say(f"model: {run.model_dir}   report: {run.path / 'report.html'}")
    if "task" in run.config:
        say(f"next: genus predict {run.path} FILE -o OUT")
    return 0
