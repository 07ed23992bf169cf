"""Lines that stand in many documents of a site go; lines that stand in many documents of the world do not."""

import random
from pathlib import Path

import pyarrow as pa
import pytest

from genus.prepare.batches import batches_of
from genus.prepare.items import Document
from genus.prepare.steps import boilerplate
from genus.prepare.steps.boilerplate import Boilerplate, host
from genus.prepare.steps.step import set_column

MENU = "Home | News | Contact\n\n"
FOOTER = "\n\nCopyright 2024 Example Ltd\nAll rights reserved."


def pages(site: str, number: int) -> list[Document]:
    return [
        Document(
            f"{MENU}Page {site} has text of its own, number {'x' * i}.\n" + FOOTER.replace("2024", str(2000 + i)),
            name=f"{site}/{i}",
        )
        for i in range(number)
    ]


def survey(step: Boilerplate, units: list[list[Document]], folder: Path) -> tuple[list[list[str]], dict, list]:
    """All three phases; the texts left in each unit."""
    batches = [list(batches_of(unit)) for unit in units]
    observed = [(i, pa.concat_tables([step.observe(batch) for batch in unit])) for i, unit in enumerate(batches)]
    facts = step.decide(observed, folder, seed=0)
    outcomes = [[step.apply(folder, i)(batch) for batch in unit] for i, unit in enumerate(batches)]
    left = [[text for outcome in unit for text in outcome.batch.column("text").to_pylist()] for unit in outcomes]
    return left, facts, [outcome for unit in outcomes for outcome in unit]


def test_menus_and_footers_go_across_units_and_text_stays(tmp_path: Path) -> None:
    site = pages("https://www.example.org", 8)
    other = pages("https://elsewhere.net", 2)
    left, facts, outcomes = survey(Boilerplate(), [site[:4], [*site[4:], *other]], tmp_path)
    assert left[0] == [f"Page https://www.example.org has text of its own, number {'x' * i}." for i in range(4)]
    assert left[1][-2:] == [document.text for document in other]
    assert facts == {"lines": 3, "sites": 2}
    assert outcomes[0].changes[0].reason == "boilerplate" and outcomes[0].counts == {"lines removed": 12}


def test_a_line_must_stand_in_a_share_of_the_documents_of_its_site(tmp_path: Path) -> None:
    documents = [Document(f"Text number {'y' * i}.\n" + ("Thank you." if i % 20 == 0 else "Fine.")) for i in range(120)]
    left, facts, _ = survey(Boilerplate(share=0.1), [documents], tmp_path)
    assert facts["lines"] == 1 and left[0][0].endswith("Thank you.") and left[0][1] == "Text number y."


def test_repeats_within_a_document_count_once(tmp_path: Path) -> None:
    documents = [Document("chorus\n" * 30 + "verse " + "z" * i) for i in range(3)]
    left, facts, _ = survey(Boilerplate(documents=4, share=0.0), [documents], tmp_path)
    assert facts["lines"] == 0 and left[0] == [document.text for document in documents]


def test_documents_of_nothing_else_are_dropped(tmp_path: Path) -> None:
    documents = [Document("Just a moment...", name=f"http://a.b/{i}") for i in range(6)]
    left, _, outcomes = survey(Boilerplate(), [documents], tmp_path)
    assert left == [[]] and {drop.reason for drop in outcomes[0].drops} == {"boilerplate: nothing left"}


def test_nothing_observed(tmp_path: Path) -> None:
    step = Boilerplate()
    assert step.decide([], tmp_path, 0) == {"lines": 0, "sites": 0}
    batch = next(batches_of([Document("text")]))
    assert step.apply(tmp_path, 0)(batch).batch is batch


def test_the_decision_does_not_depend_on_units_or_on_how_much_is_sorted_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dice = random.Random(3)
    documents = [
        Document("\n".join(f"line {dice.choice('abcdefghijklmnopqrst')}" for _ in range(6)), name=f"http://s{i % 3}.org/")
        for i in range(90)
    ]
    results = []
    for number, (sizes, at_once) in enumerate([((90,), 2**24), ((30, 60), 2**24), ((1, 44, 45), 16)]):
        monkeypatch.setattr(boilerplate, "AT_ONCE", at_once)
        folder = tmp_path / str(number)
        folder.mkdir()
        rest, units = list(documents), []
        for size in sizes:
            units.append(rest[:size])
            rest = rest[size:]
        left, facts, _ = survey(Boilerplate(share=0.2), units, folder)
        results.append(([text for unit in left for text in unit], facts, (folder / boilerplate.FOUND).read_bytes()))
    assert results[0] == results[1] == results[2] and results[0][1]["lines"] > 0


def test_rows_are_those_of_the_batch() -> None:
    batch = set_column(next(batches_of([Document("a\nb"), Document("b\nc")])), "row", [7, 9])
    table = Boilerplate().observe(batch)
    assert table is not None and set(table["row"].to_pylist()) == {7, 9} and sum(table["documents"].to_pylist()) == 4 + 2


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("https://www.Example.org:80/a?b=c", "example.org"),
        ("docs/readme.md", ""),
        (None, ""),
        ("http://[broken", ""),
        ("s3://bucket/key", "bucket"),
    ],
)
def test_sites_are_hosts(name: str | None, expected: str) -> None:
    assert host(name) == expected
