"""The family tree: every system is documented, placed and of the published size."""

from __future__ import annotations

import inspect
import re
from typing import Any

import pytest
import torch

from genus import recipes
from genus.parts.model import Model
from genus.recipes.recipe import BRANCHES, System, system

SEVEN_B: dict[str, Any] = {"dim": 4096, "depth": 32, "heads": 32}

PUBLISHED = [  # counted from the checkpoints that their authors released
    ("gpt1", {}, 116_534_784),
    ("gpt2", {}, 124_439_808),
    ("gpt2", {"dim": 1024, "depth": 24, "heads": 16}, 354_823_168),
    ("gpt2", {"dim": 1600, "depth": 48, "heads": 25}, 1_557_611_200),
    ("gpt-neox", {"dim": 512, "depth": 6, "heads": 8, "vocab": 50304}, 70_426_624),  # Pythia-70m
    ("gpt-neox", {"dim": 6144, "depth": 44, "heads": 64, "vocab": 50432}, 20_554_567_680),
    ("bloom", {}, 559_214_592),
    ("bloom", {"dim": 14336, "depth": 70, "heads": 112}, 176_247_271_424),
    ("llama", SEVEN_B | {"hidden": 11008}, 6_738_415_616),
    ("llama", SEVEN_B | {"hidden": 14336, "kv_heads": 8, "vocab": 128256}, 8_030_261_248),  # LLaMA 3
    ("mistral", SEVEN_B | {"hidden": 14336, "kv_heads": 8}, 7_241_732_096),
    ("mixtral", SEVEN_B | {"hidden": 14336, "kv_heads": 8}, 46_702_792_704),
    (
        "qwen3",
        {"dim": 1024, "depth": 28, "heads": 16, "kv_heads": 8, "head_dim": 128, "hidden": 3072, "vocab": 151936, "tied": True},
        596_049_920,
    ),
    ("olmo2", SEVEN_B | {"hidden": 11008, "vocab": 100352}, 7_298_617_344),
    ("gemma2", {"dim": 2304, "depth": 26, "heads": 8, "kv_heads": 4, "head_dim": 256, "hidden": 9216}, 2_614_341_888),
    ("bert", {}, 110_106_428),  # with both read-outs
    ("bert", {"sentences": False}, 109_514_298),
    ("bert", {"dim": 1024, "depth": 24, "heads": 16, "sentences": False}, 335_174_458),
    ("roberta", {}, 124_697_433),
    ("albert", {}, 11_813_810),
    ("albert", {"sentences": False}, 11_221_680),
    ("distilbert", {}, 66_985_530),
    ("t5", {}, 60_506_624),
    ("t5", {"depth": 8, "heads": 6, "head_dim": 64, "hidden": 1024, "gated": True, "tied": False}, 76_961_152),  # v1.1 small
    ("t5-v1-1", {"heads": 6, "head_dim": 64, "hidden": 1024}, 76_961_152),  # small
    ("t5-v1-1", {"dim": 768, "depth": 12, "heads": 12}, 247_577_856),  # base
    ("zaremba", {}, 4_653_200),
    ("zaremba", {"size": "large"}, 66_034_000),
    (
        "elmo",
        {"spelled": True},
        98_796_368,
    ),  # the released biLM has 93,600,864 before the read-out, and one bias less for each gate
]


@pytest.mark.parametrize(("name", "sizes", "count"), PUBLISHED)
def test_published_size(name: str, sizes: dict[str, Any], count: int) -> None:
    assert recipes.make(name, **sizes).parameters_total == count


@pytest.mark.parametrize("each", recipes.systems(), ids=lambda s: s.name)
def test_every_system_is_documented(each: System) -> None:
    assert each.branch in BRANCHES and 1940 < each.year < 2030 and len(each.title) > 5
    assert re.search(r"\d{4}", each.citation), "a citation has a year or an arXiv number"
    assert 10 < len(each.summary) < 130
    assert re.search(r"[\u4e00-\u9fff]{3}", each.summary_zh) and len(each.summary_zh) < 80
    assert each.depths[0] <= each.depths[1] and each.aspect > 0 and each.heads_of > 0
    recipe = recipes.make(each.name)
    assert recipe.name == each.name and recipes.get(each.name) is each


def test_parents_exist_and_lead_to_a_root() -> None:
    names = {s.name for s in recipes.systems()}
    for each in recipes.systems():
        path = [each.name]
        while recipes.get(path[-1]).parent is not None:
            parent = recipes.get(path[-1]).parent
            assert parent in names and parent not in path, path
            assert recipes.get(parent).year <= recipes.get(path[-1]).year or parent.startswith("transformer-"), (
                f"{path[-1]} is older than {parent}"
            )
            path.append(parent)


def test_names() -> None:
    assert len(recipes.names()) == len(set(recipes.names())) >= 22
    assert all(re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", n) for n in recipes.names())
    branches = [s.branch for s in recipes.systems()]
    assert branches == sorted(branches, key=list(BRANCHES).index)
    assert recipes.get("GPT_NeoX").name == "gpt-neox"
    with pytest.raises(ValueError, match=r"no recipe 'lama'; did you mean 'llama'\? \(see: genus recipes\)"):
        recipes.make("lama")
    with pytest.raises(ValueError, match="no branch 'decoders'; did you mean 'decoder'"):
        system(branch="decoders")(lambda: None)


def test_what_generates() -> None:
    silent = {s.name for s in recipes.systems() if not s.generates}
    assert {"bert", "t5", "transformer"} <= silent and not silent & {"gpt2", "lstm", "nnlm", "llama"}


@pytest.mark.parametrize("name", [s.name for s in recipes.systems() if "dropout" in inspect.signature(s.function).parameters])
def test_dropout_reaches_the_model(name: str) -> None:
    """It moves the output in training and only there."""
    accepted = inspect.signature(recipes.get(name).function).parameters
    sizes = {"dim": 32, "depth": 1, "heads": 2, "vocab": 40, "context": 16, "dropout": 0.5}
    recipe = recipes.make(name, **{k: v for k, v in sizes.items() if k in accepted})
    model, ids = recipe.model.build(), torch.arange(12)[None]
    source = {"source": ids} if recipe.model.encoder else {}
    assert not torch.equal(model(ids, **source), model(ids, **source))
    model.eval()
    assert torch.equal(model(ids, **source), model(ids, **source))


def test_no_published_name_outside_recipes_and_export() -> None:
    """Rule 2 of the house: nothing else asks what a model is called."""
    from pathlib import Path

    import genus

    root = Path(genus.__file__).parent
    names = "|".join(re.escape(n) for n in recipes.names() if n not in ("rnn", "lstm", "gru", "transformer", "ngram"))
    wrong = []
    for folder in ("ops", "parts", "objectives", "train", "generate", "evaluate"):
        for file in (root / folder).glob("*.py"):
            wrong += [
                f"{file.name}: {m.group()}"
                for m in re.finditer(rf"[=!]= ?[\"']({names})[\"']|in \([\"']({names})[\"']", file.read_text())
            ]
    assert not wrong


def test_published_rules() -> None:
    """What a paper fixes beside its sizes."""
    assert recipes.make("mistral", heads=32, dim=4096).model.stack.blocks[0].parts[0].kv_heads == 8
    assert recipes.make("mistral").model.stack.blocks[0].parts[0].window == 4096
    llama = recipes.make("llama", dim=4096, depth=32, heads=32)
    assert llama.model.stack.blocks[0].parts[1].hidden == 10944  # 8/3 of the width, a multiple of 64; the paper took 256: 11008
    gemma = recipes.make("gemma2").model
    assert gemma.head.softcap == 30.0 and [b.parts[0].window for b in gemma.stack.blocks] == [4096, None]
    assert [b.parts[0].window for b in recipes.make("gpt3").model.stack.blocks] == [None, 256]
    assert isinstance(gemma, Model) and gemma.embed.scale == 512**0.5
