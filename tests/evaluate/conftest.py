"""A prepared folder of forty short documents, half English, half Chinese, and models trained on nothing."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
import torch

from genus import recipes
from genus.export import huggingface
from genus.prepare import prepare
from genus.prepare.dataset import Dataset
from genus.run import Run
from genus.spec import to_json

ENGLISH = ["the", "quick", "brown", "fox", "jumps", "over", "lazy", "dogs", "while", "nine", "small", "birds", "sing"]
CHINESE = "春眠不觉晓，处处闻啼鸟。夜来风雨声，花落知多少。床前明月光，疑是地上霜。举头望明月，低头思故乡。"


def _document(number: int, rng: random.Random) -> str:
    if number % 2:
        return "".join(rng.choice(CHINESE) for _ in range(rng.randint(5, 60)))
    return " ".join(rng.choice(ENGLISH) for _ in range(rng.randint(5, 60)))


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder = tmp_path_factory.mktemp("evaluate")
    rng = random.Random(1)
    lines = [json.dumps({"text": _document(n, rng)}) for n in range(200)]
    (folder / "texts.jsonl").write_text("\n".join(lines), encoding="utf-8")
    prepare([folder / "texts.jsonl"], folder / "data", tokenizer="bpe", vocab=400, validation=0.2, test=0.05, workers=1)
    return Dataset.open(folder / "data")


@pytest.fixture(scope="session")
def other_tokenizer(tmp_path_factory: pytest.TempPathFactory, data: Dataset) -> Dataset:
    """The same text in bytes."""
    folder = tmp_path_factory.mktemp("bytes")
    source = data.root.parent / "texts.jsonl"
    prepare([source], folder / "data", tokenizer="bytes", validation=0.2, test=0.05, workers=1)
    return Dataset.open(folder / "data")


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory, data: Dataset) -> dict[str, Path]:
    """Finished runs of a windowed, a recurrent and a learned-position model."""
    folder = tmp_path_factory.mktemp("runs")
    made = {}
    for name in ("llama", "gpt2", "gru"):
        torch.manual_seed(0)
        sizes = {"dim": 16, "depth": 1, "heads": 2} if name != "gru" else {"dim": 16, "depth": 1}
        recipe = recipes.make(name, vocab=data.vocab_size, context=24, **sizes)
        model = recipe.model.build()
        with torch.no_grad():
            for p in model.parameters():
                if p.dim() > 1:
                    p.normal_(0.0, 0.3)
        config = {"recipe": to_json(recipe), "data": {"fingerprint": data.fingerprint}}
        run = Run.create(folder / name, config)
        huggingface.save(run.model_dir, model, recipe, data.tokenizer)
        made[name] = run.path
    return made
