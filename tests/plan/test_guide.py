"""`genus recipes choose`: what the data and the labels suggest, with the numbers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import genus
from genus import cli
from genus.plan.guide.advice import commands, general, particular, to_json
from genus.plan.guide.facts import Facts, Labels, Lengths, Pile, gather
from genus.plan.guide.findings import FEW, Text
from genus.plan.guide.rules import RULES


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("guide")
    (folder / "text.txt").write_text("\n\n".join(f"the cat number {i} sat on a mat and looked at the dog" for i in range(300)))
    genus.prepare(folder / "text.txt", out=folder / "data", tokenizer="bytes")
    return folder / "data"


@pytest.fixture(scope="module")
def labels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("labels") / "labels.csv"
    rows = [f"the {'cat' if i % 5 else 'dog'} is {i},{'good' if i % 5 else 'bad'}" for i in range(100)]
    file.write_text("text,label\n" + "\n".join(rows) + "\nno label here,\n")
    return file


def finding(facts: Facts, name: str) -> tuple[str, str]:
    found = next(rule for rule in RULES if rule.name == name).find(facts)
    assert found is not None
    return found.verdict.en, found.reason.en


PILE = Pile("data", 1_000_000, 50, 4_000_000, 4.0, Lengths(200, 400, 0.0), 0.0, False)


def labelled(**changes: object) -> Labels:
    given = {"classes": {"a": 60, "b": 40}, "two": False, "lengths": Lengths(20, 60, 0.0), "chinese": 0.0} | changes
    return Labels("x.csv", str(given.pop("task", "classification")), "", 100, 0, **given)  # type: ignore[arg-type]


def test_facts_are_those_of_the_files(data: Path, labels: Path) -> None:
    facts = gather([str(labels), str(data)])
    assert facts == gather([str(data), str(labels)])
    opened = genus.prepare.dataset.Dataset.open(data)
    assert facts.pile is not None and facts.labels is not None
    assert facts.pile.tokens == opened.split("train").tokens and facts.pile.bytes_per_token == opened.bytes_per_token
    assert facts.labels.task == "classification" and facts.labels.classes == {"good": 80, "bad": 20}
    assert (facts.labels.rows, facts.labels.refused) == (100, 1)
    assert facts.labels.lengths == Lengths(13.0, 13.0, 0.0) and facts.labels.bytes_per_token == 1.0
    alone = gather([str(labels)])
    assert alone.pile is None and alone.labels is not None and alone.labels.lengths.unit == "characters"
    with pytest.raises(ValueError, match="are two folders that genus prepare made; give one"):
        gather([str(data), str(data)])


def test_every_reason_has_a_number_and_a_paper(data: Path, labels: Path) -> None:
    facts = gather([str(data), str(labels)])
    found = [(rule, rule.find(facts)) for rule in RULES]
    assert all(f is not None and any(c.isdigit() for c in f.reason.en) for _, f in found)
    assert all(any(c.isdigit() for c in rule.paper) for rule, _ in found)
    for text in (t for _, f in found if f for t in (f.verdict, f.reason)):
        assert any("一" <= c <= "鿿" for c in text.zh) and not any("一" <= c <= "鿿" for c in text.en)


def test_verdicts_follow_the_numbers() -> None:
    assert finding(Facts(PILE), "masked")[0] == "causal"
    assert finding(Facts(PILE, labelled()), "masked")[0] == "both"
    assert finding(Facts(PILE, labelled(two=True)), "masked")[0] == "masked first, causal beside it"
    assert finding(Facts(PILE, labelled(task="tagging", classes={})), "masked")[0] == "masked first, causal beside it"
    assert finding(Facts(PILE, labelled(task="conversation", classes={})), "shape")[0] == "decoder"
    assert finding(Facts(PILE), "size") == (
        "at most about 200k parameters",
        "4 passes over 1M tokens are 4M, and a parameter wants about 20; genus plan measures where the best size lies below that",
    )
    few = finding(Facts(None, labelled(classes={"a": 84, "b": FEW - 1})), "labels")
    assert "5 seeds" in few[0] and few[1].startswith("31 rows of the rarest of 2 classes, fewer than 32")
    assert finding(Facts(None, labelled(classes={"a": 90, "b": 10})), "balance")[0] == "macro-F1 before accuracy"
    assert finding(Facts(None, labelled(lengths=Lengths(400, 900, 0.3))), "length")[0].startswith("models without a limit")
    assert finding(Facts(None, labelled(lengths=Lengths(40, 90, 0.0))), "length")[0] == "attention; a context of 128 is enough"
    assert finding(Facts(PILE, labelled(chinese=0.9)), "language")[0].startswith("another pile")
    assert finding(Facts(PILE, labelled(bytes_per_token=2.0)), "language")[0].startswith("look for text")
    assert finding(Facts(PILE, labelled(tokens=4e6)), "pile")[0].startswith("little to expect")


def test_commands() -> None:
    lines = [line for _, line in commands(Facts(PILE, labelled()))]
    assert lines[0] == "genus plan data --budget 1h -o plans/choice"
    assert "genus train elmo data -o runs/elmo" in lines
    assert "genus tune runs/gpt2 x.csv -o runs/gpt2-tuned --compare" in lines
    assert [line.split()[2] for _, line in commands(Facts(None, labelled(task="sequence", classes={})))] == ["t5", "gpt2"]
    known = set(genus.recipes.names())
    trained = (line.split()[2] for line in lines if line.startswith("genus train"))
    assert known.issuperset(trained)


def output(capsys: pytest.CaptureFixture[str], *words: str, status: int = 0) -> str:
    assert cli.main(["recipes", "choose", *words]) == status
    shown = capsys.readouterr()
    return shown.err if status else shown.out


def test_command_line(data: Path, labels: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shown = output(capsys, str(data), str(labels))
    assert shown.strip() == "\n".join(particular(gather([str(data), str(labels)]), "en")).strip()
    assert "always saying 'good' is right in 80%" in shown and "\nWhat would be compared\n" in shown
    assert "总答 'good' 的准确率为 80%" in output(capsys, str(data), str(labels), "--language", "zh").replace("\n  ", "")
    read = json.loads(output(capsys, str(labels), "--json"))
    assert read["pile"] is None and {f["rule"] for f in read["findings"]} >= {"masked", "labels", "balance"}
    assert read == json.loads(json.dumps(to_json(gather([str(labels)]))))
    general_lines = output(capsys)
    assert general_lines.strip() == "\n".join(general("en")).strip() and all(rule.paper in general_lines for rule in RULES)
    assert len(json.loads(output(capsys, "--json"))) == len(RULES)
    assert "掩码还是因果" in output(capsys, "--language", "zh")


def test_wrong_columns(labels: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "no column 'mood'" in output(capsys, str(labels), "--label", "mood", status=2)
    assert Text("a", "b")["zh"] == "b"
