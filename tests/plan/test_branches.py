"""Names of branches."""

from __future__ import annotations

import pytest

from genus import recipes
from genus.plan.branches import SHORT, branch, branches, names, trainable
from genus.plan.options import BRANCHES


def test_the_default_branches_are_known() -> None:
    found = branches(BRANCHES)
    assert [b.name for b in found] == list(BRANCHES)
    assert [b.recipe for b in found] == ["ngram", "lstm", "gpt2", "llama", "deltanet", "deltanet-hybrid"]
    assert [b.kind for b in found] == ["counted", *["descended"] * 5]


def test_every_recipe_that_trains_is_a_branch() -> None:
    for system in recipes.systems():
        if trainable(system):
            assert branch(system.name).recipe == system.name
            assert branch(system.name.replace("-", "_").upper()).recipe == system.name
    assert set(SHORT.values()) < set(recipes.names()) and not set(SHORT) & set(recipes.names())
    assert set(names()) == {*SHORT, *(s.name for s in recipes.systems() if s.generates and s.name != "elmo")}


@pytest.mark.parametrize("name", ["bert", "t5", "transformer"])
def test_models_that_see_the_future_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} sees the whole text at once.*choose among: gpt, .*lstm"):
        branch(name)


def test_two_directions_are_refused() -> None:
    with pytest.raises(ValueError, match="elmo learns from both directions"):
        branch("elmo")


@pytest.mark.parametrize(("name", "near"), [("lama", "llama"), ("delta-net", "deltanet"), ("gtp", "gpt"), ("n-gram", "ngram")])
def test_a_typing_error_is_answered_with_the_nearest(name: str, near: str) -> None:
    with pytest.raises(ValueError, match=f"no branch '{name}'; did you mean '{near}'"):
        branch(name)


def test_one_recipe_under_two_names() -> None:
    with pytest.raises(ValueError, match=r"gpt and gpt2 are the same recipe \(gpt2\)"):
        branches(["gpt", "lstm", "gpt2"])
