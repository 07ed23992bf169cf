"""The page of a plan: everything that the plan says is on it, escaped, with nothing from elsewhere."""

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from genus.plan import page_charts as charts
from genus.plan.options import PlanOptions
from genus.plan.page import FILE, page, write
from genus.plan.store import Branch, Choice, Plan

HOSTILE = "<script>alert('x')</script>&amp;"
VOID = {"meta", "br"}


class Outline(HTMLParser):
    """The text of the page; checks that tags close in order."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.stack: list[str] = []
        self.tags: list[str] = []
        self.text = ""
        self.feed(html)
        self.close()
        assert self.stack == []

    def handle_starttag(self, tag, attrs) -> None:
        self.tags.append(tag)
        if tag not in VOID:
            self.stack.append(tag)

    def handle_startendtag(self, tag, attrs) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag) -> None:
        assert self.stack.pop() == tag

    def handle_data(self, data) -> None:
        self.text += data + "\n"


def branch(name: str, loss: float) -> Branch:
    seconds = np.geomspace(10, 10_000, 9)
    losses = loss + 1 / np.sqrt(seconds)
    curve = {"budgets": seconds, "params": seconds, "tokens": seconds, "loss": losses, "low": losses - 0.1, "high": losses + 0.1}
    sizes = np.geomspace(1e5, 1e7, 5)
    isoflops = [{"flops": f, "params": sizes, "loss": loss + (np.log(sizes / s) ** 2) / 9} for f, s in ((1e12, 3e5), (1e13, 1e6))]
    rows = [
        {
            "params": n,
            "tokens": 1e12 / 6 / n,
            "loss": loss + 0.1,
            "seconds": 50.0,
            "flops": 1.1e12,
            "predicted": 1.01 * (loss + 0.1),
        }
        for n in sizes
    ]
    points = [{"tokens": 1e6, "bpb": 2.125}, {"tokens": 2e6, "bpb": 2.0625}]
    best = Choice(name, name, 1e6, 2e7, 1000.0, loss, loss - 0.1, loss + 0.1, 2.0**30, 1e-3, 0.75)
    return Branch(
        name,
        best=best,
        frontier={"seconds": curve, "flops": curve, "memory": {**curve, "loss": [None, *losses[1:]]}, "decode": curve},
        isoflop=isoflops,
        rows=rows,
        ladder=[{"total": 1e6, "non_embedding": 9e5, "effective": 8e5, "flops": 5.4e6, "memory": 2.0**30, "decode": 1e-3}],
        trials=[{"status": "done", "points": points, "parameters": {"total": 123_000}, "seconds": 33.0, "peak_memory": 2**29}],
    )


@pytest.fixture
def plan() -> Plan:
    llama, lstm = branch("llama", 1.5), branch("lstm", 1.6)
    best = replace(
        llama.best,
        why=["it is the lowest"],
        would_change=["more time: from 3 h on lstm is better " + HOSTILE],
        curve=[{"tokens": t, "bpb": 1.5 + 1e3 / t, "low": 1.4, "high": 1.7} for t in (1e6, 1e7, 2e7)],
    )
    failed = {"status": "diverged", "reason": "NaN " + HOSTILE, "points": []}
    refused = {"budgets": 2, "collinearity": 0.99, "spread": {"alpha": [0.2, 0.9]}, "refused": "a fixed ratio", "condition": None}
    return Plan(
        data={"path": "data/" + HOSTILE.replace("/", ""), "tokens": 1_000_000},
        options=PlanOptions(price=2.0),
        budget={"seconds": 7200.0, "sweep": 1080.0, "train": 6120.0},
        machine={"device": "黙示録", "cores": 2},
        branches={
            "llama": replace(llama, best=best),
            "lstm": lstm,
            HOSTILE: Branch("gpt2", "failed", "diverged " + HOSTILE, trials=[failed]),
        },
        recommendation=best,
        alternatives=[replace(best, name="llama-half", params=5e5, loss=1.51)],
        crossings=[
            {"first": "llama", "second": "lstm", "low": 3600.0, "middle": 10800.0, "high": 36000.0, "probability": 0.4},
            {"first": "llama", "second": HOSTILE, "low": None, "middle": None, "high": None, "reach": 61200.0},
        ],
        advice=["use the 5-gram"],
        identifiability={"llama": refused},
        rolling=[
            {"branch": "llama", "form": form, "ratio": 8.0, "fitted": 9, "held": 3, "error": 0.011, "worst": -0.023}
            for form in ("blend", "bracket")
        ],
        coverage={"nominal": 0.9, "measured": 0.87, "cases": 15},
        warnings=["the largest runs disagree"],
    )


def test_everything_is_on_the_page(plan: Plan) -> None:
    text = Outline(page(plan)).text
    for shown in (
        "It is the lowest",
        "More time: from 3 h on lstm is better",
        "Use the 5-gram",
        "The largest runs disagree",
        "1.400 – 1.600",
        "recommended",
        "75 %",
        "1,000 tokens/s",
        "llama-half",
        "never within 17 h",
        "3 h",
        "40 %",
        "+1.1 %",
        "a fixed ratio",
        "meant to hold 90 % of runs, and held 87 % (15 cases)",
        "2.125, 2.062",
        "黙示録",
        plan.hash,
        "genus plan verify RUN",
        "1.0 GiB",
        "5.4M",
        "0.56",
    ):
        assert shown in text, shown


def test_nothing_is_loaded_and_nothing_runs(plan: Plan, tmp_path: Path) -> None:
    html = write(plan.write(tmp_path), tmp_path).read_text(encoding="utf-8")
    assert (tmp_path / FILE).is_file()
    outline = Outline(html)
    assert not {"script", "img", "link", "iframe", "object"} & set(outline.tags)
    assert "default-src 'none'" in html and not re.search(r"(src|href)=|url\(", html)
    assert "alert('x')" in outline.text


def test_the_page_is_the_same_after_reading_the_plan(plan: Plan, tmp_path: Path) -> None:
    written = plan.write(tmp_path)
    assert page(Plan.open(tmp_path)) == page(written)


def test_a_plan_with_nothing_but_its_recommendation(plan: Plan) -> None:
    bare = Plan({}, PlanOptions(), {}, {}, {"llama": Branch("llama", best=plan.recommendation)}, plan.recommendation)
    text = Outline(page(bare)).text
    assert "It is the lowest" in text and "Rolling" not in text and "None" not in text and "nan" not in text


def test_charts(plan: Plan) -> None:
    plan = replace(plan, branches={k: v for k, v in plan.branches.items() if v.best})
    over, operations, memory, decode = charts.frontiers(plan)
    for figure in (over, operations, memory, decode):
        ElementTree.fromstring(figure)
    assert over.count('class="c0 line"') == over.count('class="c0 band"') == 1
    assert over.count("llama, measured") == 5 and "the budget of the run: 102 min" in over
    assert memory.count("<circle") == 16 and operations.count("level") == 0  # one budget is missing from each branch's memory
    iso = charts.isoflops(plan)
    assert len(iso) == 2 and iso[0].count(" measured") == 5 and iso[0].count("<i></i>") == 2
    residuals = charts.residuals(plan)
    assert residuals.count("+1 %") >= 10 and "no error" in residuals
    assert "dashed" in charts.prediction(plan)


def test_durations() -> None:
    assert [charts.duration(t) for t in (3e-5, 0.0002, 0.5, 10, 60, 600, 3600, 86400)] == [
        "30 µs",
        "200 µs",
        "500 ms",
        "10 s",
        "1 min",
        "10 min",
        "1 h",
        "1 d",
    ]
