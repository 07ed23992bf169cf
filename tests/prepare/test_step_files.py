"""A step's model or evaluation set is a part of the plan, by content."""

import dataclasses
import os
from pathlib import Path
from typing import ClassVar

import pytest

from genus.prepare import prepare
from genus.prepare.step_files import contents
from genus.prepare.steps.decontaminate import Decontaminate
from genus.prepare.steps.step import Step

QUESTION = "How many of the seven grey geese on the upper pond were still there after the long winter?"


@dataclasses.dataclass(frozen=True)
class Reader(Step):
    """Reads."""

    NAME: ClassVar[str] = "reader"
    path: str = ""

    def reads(self) -> tuple[str, ...]:
        return (self.path,)


def of(path: Path | str) -> str:
    return contents([Reader(str(path))])[str(path)]


def test_the_content_counts_and_nothing_else(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name / "sub").mkdir(parents=True)
        (tmp_path / name / "sub" / "x.txt").write_text("one")
        (tmp_path / name / "y.txt").write_text("two")
    os.utime(tmp_path / "b" / "y.txt", (1, 1))
    assert of(tmp_path / "a") == of(tmp_path / "b")
    (tmp_path / "b" / "y.txt").rename(tmp_path / "b" / "z.txt")
    assert of(tmp_path / "a") != of(tmp_path / "b")
    before = of(tmp_path / "a" / "*.txt")
    (tmp_path / "a" / "y.txt").write_text("three")
    assert of(tmp_path / "a" / "*.txt") != before and of(tmp_path / "a") != of(tmp_path / "b")
    with pytest.raises(ValueError, match=r"reader: there is no .*nothing"):
        of(tmp_path / "nothing")
    assert contents([]) == {}


def test_it_is_in_the_manifest(tmp_path: Path) -> None:
    (tmp_path / "test.txt").write_text(QUESTION)
    (tmp_path / "in.txt").write_text("\n".join(f"line {i} is clean" for i in range(40)) + f"\nquiz: {QUESTION}\n")
    step = f"decontaminate:sets={tmp_path / 'test.txt'}"
    data = prepare(tmp_path / "in.txt", tmp_path / "DATA", split_documents="line", tokenizer="bytes", steps=[step])
    assert data.manifest["options"]["files_of_steps"] == {str(tmp_path / "test.txt"): of(tmp_path / "test.txt")}
    assert data.manifest["drops"] == {"overlaps an evaluation set": 1}
    assert Decontaminate((str(tmp_path / "DATA"),)).reads() == (str(tmp_path / "DATA" / "manifest.json"),)
