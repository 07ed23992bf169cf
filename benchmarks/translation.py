"""Multi30k German to English: what attention and the place of the norms are worth, and how far a small Transformer comes.

    python -m benchmarks.translation -o found/                               # all parts: some hours on two cores
    python -m benchmarks.translation -o found/ --parts compare --minutes 10  # five models of one size, ten minutes each
    python -m benchmarks.translation -o found/ --parts warmup                # post-norm and pre-norm, with warm-up and without
    python -m benchmarks.translation -o found/ --parts best                  # one Transformer, 40 minutes

The folder is kept: what is finished there is shown and not made again, what was killed goes on. Data from $GENUS_DATA or
../shared/data (multi30k). BLEU is sacreBLEU on text as it was written, cased; its signature is printed.

* compare: RNN without attention (Cho et al. 2014), RNNsearch (Bahdanau et al. 2015), Transformer with post-norm (Vaswani et al.
  2017), pre-norm (Xiong et al. 2020) and ResiDual (Xie et al. 2023): equal parameters, equal time, one optimiser and schedule.
  And BLEU by the length of the source (Bahdanau et al. 2015, figure 2).
* warmup: validation loss after some updates, with a warm-up and without (Xiong et al. 2020, figure 2).
* best: the settings below.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import tyro
from benchmarks._quiet import watch
from tyro.conf import arg

from genus import recipes
from genus.evaluate.translation import FILE, by_length, evaluate_pairs
from genus.generate.beam import Beam
from genus.generate.texts import Generator
from genus.ops.memory import keep_freed_memory
from genus.prepare import prepare
from genus.prepare.dataset import Dataset
from genus.recipes.sizes import shape
from genus.run import Run, load, write_atomic
from genus.spec import from_json
from genus.train.machine import describe
from genus.train.options import TrainOptions
from genus.train.start import resume, start

DATA = Path(os.environ.get("GENUS_DATA", "../shared/data")) / "multi30k"
VOCAB = 8192  # of the shared byte-level BPE
ROOM = {"context": 64, "batch": 64}  # 4,096 positions an update; two training pairs are longer
MODELS = ("rnn-encoder-decoder", "rnnsearch", "transformer", "encoder-decoder-pre-norm", "encoder-decoder-residual")
COMMON = ("objective.label_smoothing=0.1", "training.optimizer.beta2=0.98", "training.optimizer.weight_decay=0")
DECAY = ("training.schedule=WarmupStableDecay", "training.schedule.warmup=0.08", "training.schedule.decay=0.5")
BEST = "encoder-decoder-pre-norm"
BORDERS = (6, 8, 10, 12, 14, 16, 20)  # words
BEAM = Beam(5, 1.0)


@dataclass(frozen=True)
class Options:
    """What to run.

    Attributes:
        out: the folder that is kept. minutes: training of each model of `compare`; best_minutes: of `best`.
        models: of `compare`. dropout, lr: of all. updates, depth, rates: of `warmup`. pairs: test pairs; None = all.
        threads: of torch. dim: of the Transformers of `compare` and `best`; recurrent models get as many parameters.
    """

    out: Annotated[Path, arg(aliases=["-o"])]
    parts: tuple[Literal["compare", "warmup", "best"], ...] = ("compare", "warmup", "best")
    minutes: float = 15.0
    best_minutes: float = 40.0
    models: tuple[str, ...] = MODELS
    dropout: float = 0.3
    lr: float = 1e-3
    updates: int = 400
    depth: int = 6
    rates: tuple[float, ...] = (5e-4, 1e-3, 2e-3)
    pairs: int | None = None
    threads: int = 2
    dim: int = 256

    @property
    def shape(self) -> tuple[str, ...]:
        """Of the Transformers."""
        return (f"dim={self.dim}", "depth=3", "heads=4")


def data(options: Options) -> Dataset:
    """The prepared pairs: made once."""
    folder = options.out / "data"
    if not folder.exists():
        files = {split: [DATA / f"{split}.{side}.gz" for side in ("de", "en")] for split in ("train", "val", "test_2016_flickr")}
        if not files["train"][0].is_file():
            raise SystemExit(f"no Multi30k at {DATA}: set GENUS_DATA to the folder that holds multi30k/")
        options.out.mkdir(parents=True, exist_ok=True)
        held = {"validation": files["val"], "test": files["test_2016_flickr"]}
        prepare(files["train"], folder, pairs=True, vocab=VOCAB, **held)  # type: ignore[arg-type]
    return Dataset.open(folder)


def trained(name: str, recipe: str, sizes: tuple[str, ...], pairs: Dataset, options: Options, **more: Any) -> Run:
    """The run called `name`: taken as it is, continued or made."""
    folder = options.out / name
    if (folder / "run.json").is_file():
        run = Run.open(folder)
        return run if run.config.get("finished") else resume(folder, print)
    chosen = TrainOptions(overrides=sizes, eval_tokens=16384, **ROOM, **more)
    window = watch(lambda: start(recipe, pairs.root, folder, chosen, print))
    write_atomic(folder / "window.json", json.dumps({"seconds": window.seconds, "others": window.others}))
    return Run.open(folder)


def measured(run: Run, pairs: Dataset, options: Options) -> dict[str, Any]:
    """BLEU and chrF on the test set, from the run's folder where they are there already."""
    path = run.path / FILE
    if not path.is_file():
        loaded = load(run.path)

        def translate(sources: list[str]) -> list[str]:
            return [text.text for text in Generator(loaded, max_tokens=100, batch=32)(sources, beam=BEAM)]

        decoding = f"beam {BEAM.width}, length penalty {BEAM.length_penalty:g}"
        found = evaluate_pairs(
            loaded, pairs, "test", translate=translate, decoding=decoding, documents=options.pairs, dtype="auto"
        )
        found.write(path)
    return json.loads(path.read_text(encoding="utf-8"))  # type: ignore[no-any-return]


def show(names: list[str], pairs: Dataset, options: Options) -> None:
    """One line for every run, and BLEU by length."""
    print(f"\n{'':<26}{'parameters':>12}{'updates':>9}{'passes':>8}{'minutes':>9}{'others':>8}{'loss':>8}{'BLEU':>8}{'chrF':>8}")
    found = {}
    for name in names:
        run = Run.open(options.out / name)
        result = found[name] = measured(run, pairs, options)
        finished = run.config["finished"]
        window = options.out / name / "window.json"
        others = f"{100 * json.loads(window.read_text())['others']:.0f} %" if window.is_file() else "resumed"
        recipe = from_json(run.config["recipe"])
        passes = sum(_targets(run)) / pairs.split("train").tokens
        bleu, chrf = (next(s["value"] for s in result["scores"] if s["name"] == n) for n in ("BLEU", "chrF2"))
        print(
            f"{name:<26}{recipe.parameters_total:>12,}{finished['steps']:>9,}{passes:>8.1f}{finished['seconds'] / 60:>9.1f}"
            f"{others:>8}{result['loss']:>8.3f}{bleu:>8.2f}{chrf:>8.2f}"
        )
    signature = next(iter(found.values()))["scores"][0]["signature"]
    print(f"BLEU|{signature}, {next(iter(found.values()))['decoding']}\n")
    rows = {name: by_length(*zip(*result["texts"]), borders=BORDERS) for name, result in _columns(found)}
    first = next(iter(rows.values()))
    print(f"{'BLEU by words':<26}" + "".join(f"{f'{group.low}-{group.high}':>8}" for group in first))
    print(f"{'pairs':<26}" + "".join(f"{group.pairs:>8}" for group in first))
    for name, groups in rows.items():
        print(f"{name:<26}" + "".join(f"{group.bleu:>8.1f}" for group in groups))


def _columns(found: dict[str, dict[str, Any]]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The texts as (source, the model's, reference), as `by_length` takes them."""
    for name, result in found.items():
        yield name, {"texts": [(source, made, reference) for source, reference, made in result["texts"]]}


def _targets(run: Run) -> Iterator[float]:
    """Mean targets of an update, once for each update."""
    from genus.train.pairs import Pairs

    recipe = from_json(run.config["recipe"])
    pairs = Dataset.open(run.config["data"]["path"])
    loader = Pairs(pairs.split("train"), recipe.training.context, recipe.training.batch, pairs.tokenizer.bos_id)
    yield run.config["finished"]["steps"] * loader.targets_per_batch


def compare(pairs: Dataset, options: Options) -> None:
    sizes = dict(part.split("=") for part in options.shape)
    given = {key: int(value) for key, value in sizes.items()} | {"vocab": pairs.vocab_size}
    aim = recipes.make("transformer", **given).parameters_total
    names = []
    for model in options.models:
        recurrent = recipes.get(model).depths == (1, 1)
        recipe = recipes.fit(model, aim, vocab=pairs.vocab_size) if recurrent else recipes.make(model, **given)
        print(f"\n{model}: {shape(recipe)}")
        shaped = (f"dim={recipe.model.dim}",) if recurrent else options.shape
        names.append(f"compare-{model}")
        more: dict[str, Any] = {"seconds": 60 * options.minutes, "lr": options.lr, "dropout": options.dropout}
        trained(names[-1], model, (*shaped, *COMMON, *DECAY), pairs, options, **more)
    show(names, pairs, options)


def warmup(pairs: Dataset, options: Options) -> None:
    """Validation loss in nats per token after some updates at a constant rate, with a warm-up over half of them and without."""
    print(f"\nvalidation loss after {options.updates} updates, {options.depth} layers × 128")
    print(f"{'':<26}{'warm-up':>9}" + "".join(f"{f'lr {rate:g}':>12}" for rate in options.rates))
    shaped = ("dim=128", f"depth={options.depth}", "heads=4", "training.schedule=Constant")
    passes = options.updates / 123  # 123 updates of 4,096 positions are a pass
    for model in ("transformer", "encoder-decoder-pre-norm", "encoder-decoder-residual"):
        for share in (0.0, 0.5):
            losses = []
            for rate in options.rates:
                sizes = (*shaped, f"training.schedule.warmup={share:g}", *COMMON)
                name = f"warmup-{model}-{share:g}-{rate:g}"
                run = trained(name, model, sizes, pairs, options, epochs=passes, lr=rate, eval_every=1e9)
                losses.append(run.config["finished"]["validation"]["loss"])
            print(f"{model:<26}{f'{share:.0%}':>9}" + "".join(f"{loss:>12.3f}" for loss in losses), flush=True)


def best(pairs: Dataset, options: Options) -> None:
    more: dict[str, Any] = {"seconds": 60 * options.best_minutes, "lr": options.lr, "dropout": options.dropout, "eval_every": 240}
    trained("best", BEST, (*options.shape, *COMMON, *DECAY), pairs, options, **more)
    show(["best"], pairs, options)


def main(options: Options) -> None:
    torch.set_num_threads(options.threads)
    keep_freed_memory()
    print(f"{describe()['device']}, {options.threads} threads, torch {torch.__version__}")
    pairs = data(options)
    for part in options.parts:
        {"compare": compare, "warmup": warmup, "best": best}[part](pairs, options)


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
