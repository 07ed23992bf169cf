"""The Chinese rules: characters instead of words; other languages are not theirs."""

import gzip
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from genus.prepare.batches import batches_of
from genus.prepare.items import Document
from genus.prepare.steps.chinese import Chinese, repeated_share
from genus.prepare.steps.hanzi import SIMPLIFIED, TRADITIONAL, variant
from genus.prepare.steps.layout import Layout

PROSE = (
    "星期二，委员会开会讨论了旧桥的状况，大家一致同意，修理工程应当在春天开始。没有人能够确切地说出修理要花多少钱；工程师们答应在月底以前交出一份估算。"
    "在那以前，请来参观的人小心行走，并且靠左边走。桥是一百二十年前建成的，当时河上还没有别的桥，过河只能坐船。"
    "老人们还记得，冬天河面结冰的时候，孩子们就在冰上走到对岸去上学。现在桥面上每天有三千多辆汽车经过，石头已经有了裂缝，栏杆也生了锈。"
    "市长表示，经费问题会和省里一起解决，希望明年秋天能够重新通车。"
)
TRADITIONAL_PROSE = (
    "星期二，委員會開會討論了舊橋的狀況，大家一致同意，修理工程應當在春天開始。沒有人能夠確切地說出修理要花多少錢；工程師們答應在月底以前交出一份估算。"
    "在那以前，請來參觀的人小心行走，並且靠左邊走。橋是一百二十年前建成的，當時河上還沒有別的橋，過河只能坐船。"
    "老人們還記得，冬天河面結冰的時候，孩子們就在冰上走到對岸去上學。現在橋面上每天有三千多輛汽車經過，石頭已經有了裂縫，欄杆也生了鏽。"
    "市長表示，經費問題會和省裡一起解決，希望明年秋天能夠重新通車。"
)


def judge(text: str, **settings: object) -> str | None:
    drops = Chinese(**settings).ready()(next(batches_of([Document(text)]))).drops  # type: ignore[arg-type]
    return drops[0].reason if drops else None


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (PROSE, None),
        (TRADITIONAL_PROSE, None),
        (PROSE[:100], "too few characters"),
        ("\n".join(PROSE[i : i + 6] for i in range(0, len(PROSE), 6)), "short lines"),
        (PROSE[:60] + " 2024-01-01 12:00:00 !!!" * 30, "little Chinese"),
        (PROSE[:40] * 8, "repeated phrases"),
        ("".join(chr(0x5000 + 7 * i) for i in range(250)), "no Chinese function words"),
        ("The old bridge has been closed.", None),
        ("これは日本語の文章です。", None),
    ],
    ids=lambda value: str(value)[:16],
)
def test_each_rule_drops_what_it_names(text: str, reason: str | None) -> None:
    assert judge(text) == reason


def test_one_of_the_two_ways_of_writing_is_kept() -> None:
    assert judge(PROSE, script="simplified") is None and judge(TRADITIONAL_PROSE, script="traditional") is None
    assert judge(PROSE, script="traditional") == "not traditional Chinese"
    assert judge(TRADITIONAL_PROSE, script="simplified") == "not simplified Chinese"


def test_variants_are_told_by_characters_that_only_one_has() -> None:
    assert (variant(PROSE), variant(TRADITIONAL_PROSE), variant("山水人天")) == ("zh-Hans", "zh-Hant", None)
    assert not SIMPLIFIED & TRADITIONAL
    assert not (SIMPLIFIED | TRADITIONAL) & set("后里台干面只几群峰床山水着")
    for simplified, traditional in zip("国们说这马车东", "國們說這馬車東"):
        assert simplified in SIMPLIFIED and traditional in TRADITIONAL


def test_repeated_runs_are_counted_as_published() -> None:
    assert repeated_share(Layout(pa.array(["短"], type=pa.large_string())), np.array([True]), 13).tolist() == [0.0]
    texts = [PROSE, PROSE[:40] * 3 + PROSE[:100], "中" * 20, "短", "English " * 30]
    layout = Layout(pa.array(texts, type=pa.large_string()))
    found = repeated_share(layout, layout.chinese, 13)
    for text, share in zip(texts, found.tolist()):
        grams = Counter(text[i : i + 13] for i in range(len(text) - 12))
        again = sum(number for number in grams.values() if number > 1)
        assert share == pytest.approx(again / max(1, sum(grams.values())) if "English" not in text else 0.0)


def test_real_paragraphs_stay(shared_data: Path) -> None:
    with gzip.open(shared_data / "libreoffice_help_en_zh" / "en-zh.tsv.gz", "rt", encoding="utf-8") as file:
        sides = [line.rstrip("\n").split("\t")[:2] for line in file]
    english, chinese = (["\n".join(side[i : i + 40]) for i in range(0, 8000, 40)] for side in zip(*sides))
    run = Chinese().ready()
    assert not run(next(batches_of(map(Document, english)))).drops
    assert len(run(next(batches_of(map(Document, chinese)))).drops) <= 0.05 * len(chinese)
