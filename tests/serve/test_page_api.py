"""What the page is given: its own files under a strict policy, models, attention, runs, labelled files."""

from __future__ import annotations

import csv
import io
import json
import re
import time
from pathlib import Path
from typing import Any

import pytest

import genus
from genus.evaluate.explain import explain
from genus.serve import predictions
from genus.serve.settings import Settings
from genus.tune.labeller import Labeller

from .conftest import Site, running
from .page_folder import go_on, training

PAGE = Path(genus.__file__).parent / "serve" / "page"


# ---- its own files


def test_the_page_comes_with_a_strict_policy(site: Site) -> None:
    found = site.get("/")
    assert found.status == 200 and found.headers["content-type"].startswith("text/html")
    assert "script-src 'self'; style-src 'self'" in found.headers["content-security-policy"]
    assert b'<script type="module" src="main.js">' in found.body


def test_all_that_the_page_refers_to_is_there_and_local(site: Site) -> None:
    seen, waiting = set[str](), ["index.html"]
    while waiting:
        path = waiting.pop()
        if path in seen:
            continue
        seen.add(path)
        found = site.get(f"/{path}")
        assert found.status == 200, path
        text = found.body.decode()
        assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", text), path
        inside = path.rpartition("/")[0]
        near = [
            *re.findall(r'from "\./([^"]+)"', text),
            *(re.findall(r'(?:src|href)="([^"#]+)"', text) if path.endswith("html") else []),
        ]
        waiting += [f"{inside}/{each}".lstrip("/") for each in near]
    assert {"main.js", "chat.js", "view/attention.js", "view/words.js", "view/report.css"} <= seen
    assert {file.name for file in PAGE.iterdir()} <= seen


def test_nothing_stands_inline() -> None:
    html = (PAGE / "index.html").read_text(encoding="utf-8")
    assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?![^>]*src=)", html)
    for file in PAGE.glob("*.js"):
        text = file.read_text(encoding="utf-8")
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|\beval\(|new Function|document\.write", text), file.name


def test_views_are_known_by_name(site: Site) -> None:
    assert site.get("/view/attention.js").headers["content-type"].startswith("text/javascript")
    for name in ("nothing.js", "..%2Fpage.py", "__init__.py"):
        assert site.get(f"/view/{name}").status == 404


# ---- models and what they look at


def test_models(site: Site) -> None:
    told = {model["name"]: model for model in site.get("/api/models").json["models"]}
    assert {name: model["looks"] for name, model in told.items()} == {
        "writer": True, "talker": True, "rewriter": True, "reader": True, "memory": False,
    }  # fmt: skip
    assert "chat" in told["talker"]["abilities"] and told["rewriter"]["abilities"] == ["embed", "rewrite"]


def test_attention_is_that_of_the_library(site: Site, folder: Path) -> None:
    loaded = genus.load(folder / "reader")
    told = site.post("/api/explain", {"model": "reader", "text": "it was"}).json
    assert told == json.loads(json.dumps(explain(loaded.model, loaded.tokenizer, "it was").to_json()))
    both = site.post("/api/explain", {"model": "rewriter", "text": "it was", "target": "so"}).json
    assert {layer["place"] for layer in both["layers"]} == {"source", "text", "cross"}


@pytest.mark.parametrize(
    ("asked", "status", "param"),
    [
        ({"model": "nobody", "text": "a"}, 404, "model"),
        ({"model": "writer", "text": "a" * 300}, 400, "text"),
        ({"model": "memory", "text": "a"}, 400, "text"),
        ({"model": "writer", "text": "a", "target": "b"}, 400, "text"),
        ({"model": "writer"}, 400, "text"),
        ({"model": "writer", "text": "a", "more": 1}, 400, "more"),
    ],
)
def test_what_cannot_be_shown(site: Site, asked: dict[str, Any], status: int, param: str) -> None:
    found = site.post("/api/explain", asked)
    assert (found.status, found.error["param"]) == (status, param), found.error


# ---- runs


def test_runs_and_their_reports(desk: Site, runs: Path) -> None:
    told = {run["name"]: run for run in desk.get("/api/runs").json["runs"]}
    assert {name: run["state"] for name, run in told.items()} == {"critic": "finished", "young": "training"}
    assert (told["young"]["recipe"], told["young"]["step"]) == ("gpt2", 19)
    before = desk.get("/api/report?run=young").body.decode()
    assert "<h1>young</h1>" in before and "<svg" in before
    go_on(runs / "young", 20, 5)
    again = {run["name"]: run for run in desk.get("/api/runs").json["runs"]}
    assert again["young"]["step"] == 24 and again["young"]["version"] != told["young"]["version"]
    assert again["critic"]["version"] == told["critic"]["version"]
    assert desk.get("/api/report?run=young").body.decode() != before
    assert "对比" in desk.get("/api/report?run=young&run=critic&language=zh").body.decode()


def test_a_run_that_begins_later_is_found(desk: Site, runs: Path) -> None:
    training(runs, "late", 3)
    assert "late" in [run["name"] for run in desk.get("/api/runs").json["runs"]]


def test_reports_of_what_is_not_there(desk: Site) -> None:
    for query in ("run=nothing", "run=..%2Fyoung", "run=%2Fetc"):
        found = desk.get(f"/api/report?{query}")
        assert (found.status, found.error["param"]) == (404, "run")
    assert desk.get("/api/report").status == 400
    assert desk.get("/api/report?" + "&".join(["run=young"] * 9)).status == 400


# ---- files


def upload(desk: Site, name: str, content: bytes, piece: int = 1000, **more: Any) -> str:
    number = desk.post("/api/predictions", {"model": "critic", "name": name, "size": len(content), **more}).json["number"]
    for at in range(0, len(content), piece):
        sent = desk.send("PUT", f"/api/predictions/{number}?at={at}", content[at : at + piece], {})
        assert sent.status == 200 and sent.json["received"] == min(at + piece, len(content))
    return number


def finished(desk: Site, number: str) -> dict[str, Any]:
    end = time.monotonic() + 30
    while (state := desk.get(f"/api/predictions/{number}").json)["status"] in ("waiting", "running"):
        assert time.monotonic() < end
        time.sleep(0.02)
    return state


def test_a_file_is_labelled(desk: Site, runs: Path) -> None:
    rows = [["text", "n"], *([f"the film was {('great', 'dull')[i % 2]}", str(i)] for i in range(150))]
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    number = upload(desk, "films.csv", text.getvalue().encode())
    state = finished(desk, number)
    assert (state["status"], state["rows"], state["done"], state["errors"]) == ("done", 150, 150, 0), state
    found = desk.get(f"/api/predictions/{number}/file")
    assert 'filename="films.labelled.csv"' in found.headers["content-disposition"]
    labelled = list(csv.DictReader(io.StringIO(found.body.decode())))
    assert [row["n"] for row in labelled] == [str(i) for i in range(150)]
    told = Labeller.load(runs / "critic")([{"text": row[0]} for row in rows[1:]])
    assert [row["prediction"] for row in labelled] == [each["prediction"] for each in told]
    assert desk.send("DELETE", f"/api/predictions/{number}", None, {}).status == 200
    assert desk.get(f"/api/predictions/{number}").status == 404


def test_another_column(desk: Site) -> None:
    content = b'{"words": "so great"}\n{"words": ""}\n'
    state = finished(desk, upload(desk, "a.jsonl", content, text="words"))
    assert (state["status"], state["done"], state["errors"]) == ("done", 2, 1)
    state = finished(desk, upload(desk, "a.jsonl", content))
    assert state["status"] == "failed" and "a.jsonl has no column 'text'" in state["message"] and "/tmp" not in state["message"]


def test_files_that_are_refused(desk: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    def ask(**changes: Any) -> Any:
        return desk.post("/api/predictions", {"model": "critic", "name": "a.csv", "size": 10} | changes)

    for changes, param in (
        ({"name": "a.exe"}, "name"),
        ({"size": 2**40}, "size"),
        ({"size": 0}, "size"),
        ({"model": "x"}, "model"),
    ):
        found = ask(**changes)
        assert found.status in (400, 404) and found.error["param"] == param
    number = ask().json["number"]
    wrong = [("?at=5", b"abc"), ("?at=0", b"a" * 11), ("?at=-1", b"a"), ("", b"a")]
    assert [desk.send("PUT", f"/api/predictions/{number}{at}", piece, {}).status for at, piece in wrong] == [400] * 4
    assert desk.get(f"/api/predictions/{number}/file").status == 400
    assert desk.get("/api/predictions/guess").status == 404
    monkeypatch.setattr(predictions, "MOST", 0)
    assert ask().status == 429


def test_what_nobody_wants_goes(desk: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    old = desk.post("/api/predictions", {"model": "critic", "name": "a.csv", "size": 10}).json["number"]
    monkeypatch.setattr(predictions, "KEPT", -1.0)
    new = desk.post("/api/predictions", {"model": "critic", "name": "b.csv", "size": 10}).json["number"]
    assert desk.get(f"/api/predictions/{old}").status == 404 and desk.get(f"/api/predictions/{new}").status == 200


def test_a_key_guards_all_of_it(folder: Path) -> None:
    with running(Settings((str(folder / "reader"),), port=0, key="a secret key")) as locked:
        assert locked.get("/").status == locked.get("/view/words.js").status == 200
        for path in ("/api/models", "/api/runs", "/api/report?run=x", "/api/predictions/x"):
            assert locked.get(path).status == 401
        assert locked.get("/api/models", Authorization="Bearer a secret key").status == 200
