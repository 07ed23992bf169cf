"""Steps as they are written: names, settings, presets, YAML, JSON, steps of one's own."""

import dataclasses
import json
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import pytest
import yaml

from genus.prepare import steps
from genus.prepare.steps import presets, settings
from genus.prepare.steps.step import Step


@dataclass(frozen=True)
class Wanted(Step):
    """Keep what is wanted."""

    NAME: ClassVar[str] = "wanted"

    keep: tuple[str, ...] = ()
    least: float = 0.5
    most: int | None = None
    how: Literal["hard", "soft"] = "soft"
    strict: bool = False
    sizes: tuple[int, ...] = (2, 3)
    seed: int | None = None


@dataclass(frozen=True)
class Plain(Step):
    """Nothing."""

    NAME: ClassVar[str] = "plain"
    PAIRS: ClassVar[bool] = True


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    known = {"wanted": Wanted, "plain": Plain}
    real = steps.find
    monkeypatch.setattr(steps, "NAMES", ("wanted", "plain"))
    monkeypatch.setattr(steps, "find", lambda name: known[name] if name in known else real(name))
    monkeypatch.setattr(steps, "PRESETS", {"tidy": ("plain", "wanted:least=0.7")})


def test_names_settings_and_presets() -> None:
    assert steps.parse(["plain", "wanted:keep=en+zh,least=1,most=1_000,how=hard,strict=yes,sizes=4"], seed=3) == (
        Plain(), Wanted(("en", "zh"), 1.0, 1000, "hard", True, (4,), 3),
    )  # fmt: skip
    assert steps.parse(["wanted:most=none,seed=9"], seed=3) == (Wanted(seed=9),)
    assert steps.parse(["tidy"]) == (Plain(), Wanted(least=0.7, seed=0))
    assert steps.parse(["tidy", "wanted:least=0.9"]) == (Plain(), Wanted(least=0.9, seed=0)), "its place is kept"
    assert steps.parse(["wanted", "tidy"]) == (Wanted(seed=0), Plain())


def test_a_step_may_run_again_with_other_settings() -> None:
    twice = steps.parse(["wanted", "plain", "wanted:least=0.9"], seed=3)
    assert twice == (Wanted(seed=3), Plain(), Wanted(least=0.9, seed=3))
    assert steps.names([*twice, Wanted(least=0.1)]) == ["wanted", "plain", "wanted-2", "wanted-3"]
    assert steps.parse(["tidy", "wanted:least=0.9", "wanted:least=0.1"]) == (
        Plain(), Wanted(least=0.9, seed=0), Wanted(least=0.1, seed=0),
    ), "the first sets that of the list, the second is one more"  # fmt: skip
    with pytest.raises(ValueError, match="named twice with the same settings"):
        steps.parse(["wanted:seed=3", "wanted"], seed=3)


def test_yaml() -> None:
    written = yaml.safe_load("[plain, {wanted: {keep: [en, zh], least: 1, most: 7, strict: true, sizes: [1, 2]}}]")
    assert steps.parse(written) == (Plain(), Wanted(("en", "zh"), 1.0, 7, "soft", True, (1, 2), 0))
    assert steps.parse([{"wanted": None}]) == (Wanted(seed=0),) and steps.parse([{"wanted": {"keep": "en"}}])[0].keep == ("en",)
    with pytest.raises(ValueError, match=r"wanted:keep: \['en', False\]: expected a list of text \(YAML reads yes, no"):
        steps.parse(yaml.safe_load("[{wanted: {keep: [en, no]}}]"))


def test_json_and_back() -> None:
    step = Wanted(("en",), 0.25, 3, "hard", True, (), 5)
    told = json.loads(json.dumps(steps.to_json(step)))
    assert told["step"] == "wanted" and steps.from_json(told) == step


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["wnted"], "no step or preset called 'wnted'; did you mean 'wanted'.*--list-steps"),
        (["wanted:kep=en"], "no setting 'kep'; did you mean 'keep'"),
        (["plain:loud=1"], "no setting 'loud'; it has none"),
        (["wanted:least=much"], "wanted:least=much: expected a number"),
        (["wanted:most=1.5"], "wanted:most=1.5: expected a whole number or none"),
        (["wanted:how=sof"], "expected one of hard, soft; did you mean 'soft'"),
        (["wanted:strict=maybe"], "expected true or false"),
        (["wanted:keep"], "write field=value"),
        (["tidy:least=1"], "has no settings"),
        (["plain", "plain"], "named twice with the same settings"),
        ([{"plain": 3}], "are no settings"),
        ([["plain"]], "is no step"),
        (["genus.prepare.items.Document"], "is no step"),
        (["genus.prepare.nowhere.Step"], "cannot be imported"),
    ],
)
def test_what_is_wrong_is_said(words: list[Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        steps.parse(words)


def test_a_step_of_ones_own_is_named_by_its_import_path(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "steps_of_mine.py").write_text(
        "from dataclasses import dataclass\nfrom typing import ClassVar\nfrom genus.prepare.steps.step import Step\n"
        "@dataclass(frozen=True)\nclass Shout(Step):\n    NAME: ClassVar[str] = 'shout'\n    loud: int = 1\n"
        "@dataclass(frozen=True)\nclass Bad(Step):\n    NAME: ClassVar[str] = '../bad'\n"
    )
    (step,) = steps.parse(["steps_of_mine.Shout:loud=2"])
    assert step.NAME == "shout" and step.loud == 2
    assert steps.to_json(step) == {"step": "steps_of_mine.Shout", "loud": 2} and steps.from_json(steps.to_json(step)) == step
    with pytest.raises(ValueError, match="small letters, digits and hyphens"):
        steps.parse(["steps_of_mine.Bad"])


def test_pairs_need_steps_that_know_them() -> None:
    assert steps.parse(["plain"], pairs=True) == (Plain(),)
    with pytest.raises(ValueError, match="the step wanted cleans single texts, not pairs"):
        steps.parse(["plain", "wanted"], pairs=True)


def test_numbers_keep_their_kind() -> None:
    assert settings.value_for(2, float, "x") == 2.0 and isinstance(settings.value_for(2, float, "x"), float)
    assert settings.value_for(2.0, int, "x") == 2 and settings.value_for("1e3", float, "x") == 1000
    for given, hint in ((True, int), (2.5, int), (3, str), ("x", int), (None, int)):
        with pytest.raises(ValueError, match="expected"):
            settings.value_for(given, hint, "x")


def test_every_registered_step_and_preset_is_sound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    monkeypatch.setattr(steps, "_PROVIDED", {})  # the command line, where it ran before in this process, put a child in a place
    for name, summary in steps.summaries().items():
        cls = steps.find(name)
        assert name == cls.NAME and summary.endswith("."), f"{name}: {summary!r}"
        assert len(dataclasses.fields(cls)) <= 12 and cls.__dataclass_params__.frozen
        assert steps.from_json(json.loads(json.dumps(steps.to_json(cls())))) == cls()
    for words in presets.PRESETS.values():
        assert [step.NAME for step in steps.parse(words)] == [word.partition(":")[0] for word in words]
