"""`genus recipes`: the tree, one recipe, two recipes."""

import json

import pytest

import genus
from genus import cli
from genus.recipes import systems
from genus.recipes.recipe import BRANCHES
from genus.recipes.tree import BRANCHES_ZH
from genus.spec import diff, from_json


def output(capsys: pytest.CaptureFixture[str], *words: str, status: int = 0) -> str:
    assert cli.main(["recipes", *words]) == status
    shown = capsys.readouterr()
    return shown.err if status else shown.out


def test_the_tree_shows_every_system_with_its_citation(capsys: pytest.CaptureFixture[str]) -> None:
    lines = output(capsys).splitlines()
    for system in systems():
        at = next(i for i, line in enumerate(lines) if f" {system.name} {system.year}  {system.summary}" in line)
        assert lines[at + 1].endswith(system.citation)
        if system.parent and any(s.name == system.parent and s.branch == system.branch for s in systems()):
            parent = next(i for i, line in enumerate(lines) if f" {system.parent} " in line and "─ " in line)
            assert parent < at and lines[parent].index("─ ") < lines[at].index("─ ")


def test_chinese_summaries(capsys: pytest.CaptureFixture[str]) -> None:
    shown = output(capsys, "--language", "zh")
    assert BRANCHES.keys() == BRANCHES_ZH.keys()
    for system in systems():
        assert system.summary_zh in shown


def test_the_tree_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    records = json.loads(output(capsys, "--json"))
    assert [r["name"] for r in records] == genus.recipes.names()
    assert all(r["citation"] and r["year"] > 1900 and r["branch"] in BRANCHES for r in records)


def test_show_counts_parameters_and_prints_what_is_set(capsys: pytest.CaptureFixture[str]) -> None:
    shown = output(capsys, "show", "gpt2")
    assert "124,439,808 parameters" in shown  # as published
    assert "parts.0: Attention  heads=12  bias=true" in shown
    assert "Radford" in shown and "from gpt1" in shown


@pytest.mark.parametrize("name", genus.recipes.names())
def test_every_recipe_can_be_shown(capsys: pytest.CaptureFixture[str], name: str) -> None:
    shown = output(capsys, "show", name)
    for part in ("model:", "objective:", "training:"):
        assert f"\n{part}" in shown


def test_show_takes_sizes_and_fields(capsys: pytest.CaptureFixture[str]) -> None:
    shown = output(capsys, "show", "llama", "dim=64", "model.stack.depth=3", "model.stack.blocks.0.parts.0.kv_heads=2", "--json")
    recipe = from_json(json.loads(shown))
    assert (recipe.model.dim, recipe.model.stack.depth) == (64, 3)
    assert recipe.model.stack.blocks[0].parts[0].kv_heads == 2


def test_diff_is_about_the_design(capsys: pytest.CaptureFixture[str]) -> None:
    shown = output(capsys, "diff", "gpt2", "llama")
    assert "both at dim=768 depth=12 heads=12 vocab=50257" in shown
    rows = {line.split()[0]: line.split()[1:] for line in shown.splitlines() if line.startswith("model.")}
    assert rows["model.embed.positions"] == ["LearnedPositions", "none"]
    assert rows["model.stack.blocks.0.parts.1.gated"] == ["false", "true"]
    assert "model.dim" not in rows and "model.stack.blocks.0.norm.eps" not in rows


def test_diff_rows_are_the_difference_of_the_specs(capsys: pytest.CaptureFixture[str]) -> None:
    rows = json.loads(output(capsys, "diff", "llama", "qwen3", "dim=64", "heads=4", "--json"))
    sizes = {"dim": 64, "heads": 4, "depth": 8, "vocab": 32000, "context": 2048}
    found = [p for p, _, _ in diff(genus.recipe("llama", **sizes), genus.recipe("qwen3", **sizes)) if p != "name"]
    assert rows and all(row["path"] in found for row in rows)
    assert all(any(path == r["path"] or path.startswith(r["path"] + ".") for r in rows) for path in found)


def test_a_recipe_does_not_differ_from_itself(capsys: pytest.CaptureFixture[str]) -> None:
    assert json.loads(output(capsys, "diff", "gpt2", "gpt2", "--json")) == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("show", "gtp2"), "did you mean 'gpt2'"),
        (("diff", "gpt2", "lama"), "did you mean 'llama'"),
        (("show", "gpt2", "dimm=8"), "did you mean 'dim'"),
        (("show", "gpt2", "dim=wide"), "expected a number"),
        (("show", "gpt2", "model.stak.depth=8"), "did you mean 'stack'"),
        (("diff", "gpt2", "llama", "model.stack.depth=8"), "sizes only"),
        (("show",), "genus recipes show NAME"),
        (("list",), "genus recipes show NAME"),
    ],
)
def test_mistakes_are_explained(capsys: pytest.CaptureFixture[str], words: tuple[str, ...], message: str) -> None:
    assert message in output(capsys, *words, status=2)
