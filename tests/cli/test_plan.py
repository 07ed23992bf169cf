"""`genus plan`: what its words mean, what it hands on, and what it prints."""

import sys
from pathlib import Path
from types import ModuleType

import pytest

from genus import cli
from genus.cli.plan import per_day, per_hour, size
from genus.plan.options import PlanOptions
from genus.plan.store import Branch, Choice, Plan


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list:
    """Calls of a planning that needs no time and returns a small plan."""
    seen: list = []

    def plan(data: Path, seconds: float, out: Path, options: PlanOptions, say) -> Plan:
        seen.append((data, seconds, out, options))
        say("small runs")
        if data.name == "stop":
            raise KeyboardInterrupt
        best = Choice("llama", "llama", 1.2e6, 2.5e7, 3600.0, 1.5, 1.45, 1.56, 2.0**30, 1e-4, 0.93, why=["counting is worse"])
        branches = {"gpt": Branch("gpt2", "failed", "diverged"), "llama": Branch("llama", best=best)}
        return Plan({}, options, {}, {}, branches, best, advice=["more data would help"])

    module = ModuleType("genus.plan.planning")
    module.plan = plan  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "genus.plan.planning", module)
    return seen


def test_words_become_options(calls: list, capsys) -> None:
    words = "plan ./fit --budget 1h30m -o p --branches ngram,llama --memory 8G --serve 1M/day --price 2.5/h --base hf --share 0.1"
    assert cli.main([*words.split(), "--engine", "local:2", "--seed", "3", "--context", "128", "--target", "bpb"]) == 0
    expected = PlanOptions(
        branches=("ngram", "llama"),
        target="bpb",
        memory=8 * 2**30,
        serve=1e6,
        share=0.1,
        price=2.5,
        base=Path("hf"),
        engine="local:2",
        context=128,
        seed=3,
    )
    assert calls == [(Path("fit"), 5400.0, Path("p"), expected)]
    captured = capsys.readouterr()
    assert "small runs" in captured.err


def test_what_is_printed(calls: list, capsys) -> None:
    assert cli.main(["plan", "data", "--budget", "2h", "-o", "p", "--quiet"]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    lines = [line.strip() for line in captured.out.splitlines()]
    row = next(line for line in lines if line.startswith("llama "))
    assert row.split() == ["llama", "1.2M", "25M", "1.500", "1.450–1.560", "60", "min", "93", "%", "1.0", "GiB", "10,000/s"]
    assert "gpt: diverged" in lines
    assert lines.index("- counting is worse") > next(i for i, line in enumerate(lines) if line.startswith("recommended: llama"))
    assert "- more data would help" in lines
    assert lines[-1].startswith("next: genus train p")
    assert not any(line.startswith("warnings") for line in lines)


def test_a_plan_that_is_stopped_says_how_to_go_on(calls: list, capsys) -> None:
    assert cli.main(["plan", "stop", "--budget", "2h", "-o", "p"]) == 130
    assert "the same command goes on" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--budget 2", "not a duration"),
        ("--budget 2h --branches ,", "at least one branch"),
        ("--budget 2h --memory lots", "such as 8G"),
        ("--budget 2h --serve 1M/fortnight", "such as 1M/day"),
        ("--budget 2h --price cheap", "not a number"),
        ("--budget 2h --share 2", "between 0 and 1"),
    ],
)
def test_mistakes(calls: list, capsys, words: str, message: str) -> None:
    assert cli.main(["plan", "data", *words.split(), "-o", "p"]) == 2
    assert message in capsys.readouterr().err
    assert not calls


def test_amounts() -> None:
    assert size("8G") == size("8GiB") == size("8 GB") == 8 * 2**30
    assert size("512M") == 512 * 2**20 and size("1000") == 1000
    assert per_day("1M") == per_day("1M/day") == 1e6 and per_day("2/s") == 2 * 86400
    assert per_hour("2.5") == per_hour("60/day") == 2.5
