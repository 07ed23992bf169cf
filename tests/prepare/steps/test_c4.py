"""C4's rules: lines that are no sentences go, pages with too few sentences go."""

import pyarrow as pa
import pytest

from genus.prepare.batches import batches_of
from genus.prepare.items import Document
from genus.prepare.steps.c4 import C4, sentences
from genus.prepare.steps.layout import Layout
from genus.prepare.steps.step import Outcome

PAGE = """Home | News | Contact
The old bridge

The committee met on Tuesday. It agreed that work should begin.
"Nobody knows the cost," said an engineer.
Share this

Visitors should be careful! Are they? They are not.[1]
Read more..."""
CHINESE = """首页 新闻
星期二，委员会开会讨论了旧桥的状况。工程在春天开始！
没有人知道要花多少钱，对吗？是的。

“请大家小心。”
好的。
更多……"""


def run(*texts: str, **settings: object) -> Outcome:
    return C4(**settings).ready()(next(batches_of(Document(text) for text in texts)))  # type: ignore[arg-type]


def text(outcome: Outcome) -> list[str]:
    return outcome.batch.column("text").to_pylist()


def test_lines_that_are_no_sentences_go_and_blank_lines_stay() -> None:
    outcome = run(PAGE)
    assert text(outcome) == [
        "The committee met on Tuesday. It agreed that work should begin.\n"
        '"Nobody knows the cost," said an engineer.\n'
        "Visitors should be careful! Are they? They are not."
    ]
    (change,) = outcome.changes
    assert change.reason == "lines removed" and change.before.startswith("Home |") and change.after.startswith("The committee")
    assert outcome.counts["lines without a final stop"] == 4


def test_chinese_lines_are_judged_by_chinese_stops_and_characters() -> None:
    assert text(run(CHINESE)) == ["\n".join(CHINESE.split("\n")[1:5])]
    assert "好的。" in text(run(CHINESE, characters=2))[0]


@pytest.mark.parametrize(
    ("page", "reason"),
    [
        ("One sentence only, but a good one.", "too few sentences"),
        (PAGE + "\nLorem ipsum dolor sit amet.", "placeholder text"),
        (PAGE + "\nif (a) { b = c; return it. }.", "curly bracket"),
        (PAGE + "\n{ left out }", None),
        ("好。" * 3, "too few sentences"),
        ("今天天气很好。" * 5, None),
    ],
)
def test_pages_are_dropped_for_what_a_remaining_line_holds(page: str, reason: str | None) -> None:
    outcome = run(page)
    assert [drop.reason for drop in outcome.drops] == ([reason] if reason else [])


def test_lines_with_phrases_and_long_words_go() -> None:
    phrases = "\nPlease enable JavaScript to see this page.\nRead our Privacy Policy to learn more."
    page = f"{PAGE}{phrases}\nA {'x' * 1001} is long."
    assert text(run(page)) == text(run(PAGE))
    outcome = run(page)
    assert outcome.counts["lines with a phrase"] == 2 and outcome.counts["lines with a long word"] == 1
    assert "JavaScript" in text(run(page, phrases=("privacy policy",)))[0]
    assert "x" * 1001 in text(run(page, word_length=2000))[0]
    assert text(run(CHINESE + "\n请阅读我们的隐私政策和其他说明。")) == text(run(CHINESE))


def test_a_page_that_needs_nothing_is_not_touched() -> None:
    page = "  One is here. Two is here.\n\n\n\nThree is here. Four is here.\nFive is here.  \n"
    outcome = run(page, page.replace("One", "One[12][edit]"))
    assert text(outcome) == [page, page] and not outcome.drops
    assert [(change.row, change.reason) for change in outcome.changes] == [(1, "citations removed")]


def test_settings_switch_rules_off() -> None:
    assert text(run(PAGE, terminal=False, words=1, citations=False)) == [PAGE]
    assert not run("One sentence, and a { bracket.", sentences=1, brackets=False).drops


@pytest.mark.parametrize(
    ("line", "number"),
    [
        ("One. Two! Three?", 3),
        ('He said: "No." She left.', 2),
        ("Version 3.14 of e.g. this thing.", 1),
        ("Really?! Yes.", 2),
        ("一。二！三？", 3),
        ("no stop", 0),
    ],
)
def test_sentences_are_counted(line: str, number: int) -> None:
    assert sentences(Layout(pa.array([line], type=pa.large_string()))).tolist() == [number]


def test_the_next_line_or_text_does_not_change_what_ends_in_a_line() -> None:
    column = pa.array(["One. Two.\nthree. Four.", "five. six."], type=pa.large_string())
    assert sentences(Layout(column)).tolist() == [2, 2, 1]
