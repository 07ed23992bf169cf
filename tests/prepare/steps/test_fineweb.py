"""FineWeb's rules: lists, menus and repeated lines go, prose and Chinese prose stay."""

import pytest

from genus.prepare.batches import batches_of
from genus.prepare.items import Document
from genus.prepare.steps.fineweb import FineWeb

SENTENCES = [f"This is sentence number {i} of a page that nobody has written twice." for i in range(20)]
CHINESE = "\n".join(f"这是第{i}句话，讲的是一座旧桥。" for i in range(20))


def judge(text: str, **settings: object) -> str | None:
    batch = next(batches_of([Document(text)]))
    drops = FineWeb(**settings).ready()(batch).drops  # type: ignore[arg-type]
    return drops[0].reason if drops else None


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("\n".join(SENTENCES), None),
        (CHINESE, None),
        ("\n".join(s.rstrip(".") for s in SENTENCES), "few lines that end in a stop"),
        (CHINESE.replace("。", ""), "few lines that end in a stop"),
        ("\n".join([*SENTENCES[:5], *(f"Item {i}." for i in range(20))]), "mostly short lines"),
        ("\n".join([*SENTENCES, *SENTENCES[:3]]), "repeated lines"),
        ("\n".join([*CHINESE.split("\n"), *CHINESE.split("\n")[:4]]), "repeated lines"),
        ("\n".join(f"Supercalifragilistic expialidocious{i}." for i in range(20)), "few words per line"),
    ],
)
def test_each_rule_drops_what_it_names(text: str, reason: str | None) -> None:
    assert judge(text) == reason


def test_blank_lines_do_not_count_and_thresholds_are_the_fields() -> None:
    assert judge("\n\n\n\n".join(SENTENCES)) is None
    assert judge("\n".join([*SENTENCES, *SENTENCES[:3]]), repeated=0.2) is None
    one_in_eight = "\n".join(s if i % 8 == 0 else s.rstrip(".") for i, s in enumerate(SENTENCES[:16]))
    assert judge(one_in_eight) is None and judge(one_in_eight, punctuation=0.125) == "few lines that end in a stop"
