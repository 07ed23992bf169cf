"""The page: complete, escaped, and without a single reference to anything outside it."""

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest

from genus import cli
from genus.evaluate.evaluation import Evaluation, Measure
from genus.report.page import page, scores
from genus.report.read import read, read_all
from genus.report.words import ZH

VOID = {"meta", "br", "img", "link", "input", "hr"}


class Outline(HTMLParser):
    """Collects tags and text and checks that tags close in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.stack: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert self.stack == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.stack.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.stack and self.stack.pop() == tag, f"</{tag}> closes nothing"

    def handle_data(self, data: str) -> None:
        self.text += data


def test_one_run(full_run: Path) -> None:
    text = page([read(full_run)])
    outline = Outline(text)
    run = read(full_run)
    for shown in (
        f"{run.final():.4f}",
        "2.46M",
        "21k",
        "41 %",
        "512 MB",
        "春眠不覺曉",
        "黙示録",
        f"{run.config['parameters']:,}",
        "big <run>",
    ):
        assert shown in outline.text, shown
    assert [t for t, _ in outline.tags].count("svg") == 2 * 7  # seven charts, each with an inner picture
    dashed = [a for t, a in outline.tags if t == "path" and "dashed" in (a.get("class") or "")]
    assert len(dashed) == 1  # the prediction stands beside the real curve, against tokens


def test_nothing_comes_from_outside(full_run: Path, counted_run: Path) -> None:
    outline = Outline(page(read_all([full_run, counted_run])))
    assert not {t for t, _ in outline.tags} & {"script", "img", "link", "iframe", "object", "image", "use", "base", "form"}
    for _, attributes in outline.tags:
        assert not {"src", "href", "xlink:href", "srcset", "action"} & set(attributes)
        assert not any(name.startswith("on") for name in attributes)
    policy = next(a["content"] for t, a in outline.tags if t == "meta" and a.get("http-equiv"))
    assert policy and policy.startswith("default-src 'none'")
    style = re.search(r"<style>(.*?)</style>", page([read(full_run)]), re.S)
    assert style and "url(" not in style[1] and "@import" not in style[1]


def test_text_from_a_run_is_escaped(full_run: Path) -> None:
    text = page([read(full_run)])
    assert "<script" not in text and "<img" not in text
    assert Outline(text).text.count("<script>alert('x')</script>") == 3  # sample, event, run.json: shown as they are


def test_comparison(full_run: Path, counted_run: Path, make_run: Callable[..., Path]) -> None:
    runs = read_all([full_run, make_run("llama", recipe="llama", floor=1.5), counted_run])
    text = page(runs)
    best = min(r.final() for r in runs if r.final())
    assert re.findall(r"<b>(.*?)</b>", text) == [f"{best:.4f}"]
    assert "2.2222" in text and "counted, not trained" in text
    for i in range(3):
        assert f'<span class="c{i}"><i></i>' in text
        assert re.search(rf'<path class="c{i} (marks|line|level)"', text)


def test_chinese_labels(full_run: Path) -> None:
    text = page([read(full_run)], "zh")
    assert '<html lang="zh-CN">' in text and "学习曲线" in text and "梯度范数" in text
    assert "Learning rate" not in text
    source = "".join(p.read_text() for p in (Path(cli.__file__).parent.parent / "report").glob("page.py"))
    assert all(f'"{key}"' in source or f"'{key}'" in source for key in ZH), "a translation that nothing uses"


@pytest.mark.parametrize(
    "config", ["{}", "[]", '{"parameters": "many", "machine": 3, "versions": [], "recipe": "gpt2", "data": "here"}']
)
def test_a_run_with_almost_nothing(tmp_path: Path, config: str) -> None:
    (tmp_path / "run.json").write_text(config)
    assert "No training lines yet" in Outline(page([read(tmp_path)])).text
    (tmp_path / "metrics.jsonl").write_text(
        '{"loss": 1}\n{"kind": "eval"}\n{"kind": "sample"}\n{"kind": "event", "step": "x"}\n{"kind": 5}\n'
    )
    Outline(page([read(tmp_path)]))


def test_evaluations_are_found_wherever_they_are() -> None:
    value = {
        "bits_per_byte": 1.9, "interval": [1.8, 2.0], "data": "x",
        "baselines": {"5-gram": {"bits_per_byte": 2.2}, "xz": {"bpb": 2.6}},
        "more": [{"name": "dev", "bits_per_byte": 1, "count": 1200}],
    }  # fmt: skip
    assert dict(scores(value)) == {
        "model": {"bits_per_byte": "1.9000", "interval": "1.8000 – 2.0000"},
        "5-gram": {"bits_per_byte": "2.2000"},
        "xz": {"bpb": "2.6000"},
        "dev": {"bits_per_byte": "1", "count": "1,200"},
    }


def test_an_evaluation_as_genus_evaluate_writes_it(full_run: Path) -> None:
    model = Measure("m <1>", 1.91234, (1.9, 1.95), perplexity=33.5, tokens=12_345)
    xz = Measure("xz", 2.6001, about="LZMA2, primed with training text")
    found = Evaluation(
        data="d", fingerprint="f", split="test", documents=9, bytes=8, words=7, characters=6, chinese=0.0,
        window=64, stride=32, dtype="float32", model=model, beside=(xz,), notes=("intervals: bootstrap",),
    )  # fmt: skip
    (full_run / "evaluation.json").write_text(json.dumps(found.to_json()))
    text = Outline(page([read(full_run)])).text
    for shown in ("m <1>", "1.9123", "1.9000 – 1.9500", "33.5000", "12,345", "2.6001"):
        assert shown in text, shown
    for shown in ("split test", "window 64, stride 32", "xz: LZMA2, primed with training text", "intervals: bootstrap"):
        assert shown in text, shown


def test_command_line(
    full_run: Path, counted_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (full_run / "evaluation.json").write_text(json.dumps({"xz": {"bits_per_byte": 2.617}}))
    assert cli.main(["report", str(full_run)]) == 0
    assert capsys.readouterr().out.strip() == str(full_run / "report.html")
    assert "2.6170" in (full_run / "report.html").read_text(encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    assert cli.main(["report", str(full_run), str(counted_run)]) == 0
    assert "Comparison" in (tmp_path / "report.html").read_text(encoding="utf-8")
    assert cli.main(["report", str(full_run), "-o", str(tmp_path / "new" / "page.html"), "--language", "zh"]) == 0
    assert (tmp_path / "new" / "page.html").exists()
    assert cli.main(["report", str(tmp_path / "nowhere")]) == 2
    assert "not a run" in capsys.readouterr().err


def test_a_real_browser_lays_it_out(full_run: Path, counted_run: Path, tmp_path: Path) -> None:
    browser = next((b for b in ("chromium", "chromium-browser", "google-chrome") if shutil.which(b)), None)
    if browser is None:
        pytest.skip("no Chromium on this machine")
    file = tmp_path / "report.html"
    measure = "[document.querySelectorAll('svg').length, document.documentElement.scrollWidth <= innerWidth]"
    probe = f"<script>document.title = {measure}</script>"
    text = page(read_all([full_run, counted_run]))
    file.write_text(
        re.sub(r'<meta http-equiv="Content-Security.*?>', "", text).replace("</body>", probe + "</body>"), encoding="utf-8"
    )
    options = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        f"--user-data-dir={tmp_path}/profile",
        "--window-size=500,900",
        "--dump-dom",
    ]
    done = subprocess.run([browser, *options, file.as_uri()], capture_output=True, text=True, timeout=60)
    assert "<title>14,true</title>" in done.stdout, "charts are missing, or the page is wider than a phone"


def test_the_verdict_on_a_prediction(full_run: Path) -> None:
    assert "Reached" not in page([read(full_run)])
    verdict = {"predicted": 1.9, "low": 1.85, "high": 1.96, "achieved": 1.93, "error": 0.0155}
    (full_run / "verdict.json").write_text(json.dumps(verdict))
    line = "Predicted before training: 1.9000 (1.8500 – 1.9600). Reached: 1.9300, inside the interval, +1.55%."
    assert line in Outline(page([read(full_run)])).text
    (full_run / "verdict.json").write_text(json.dumps({**verdict, "high": 1.92}))
    assert "在区间之外" in page([read(full_run)], "zh")
    (full_run / "verdict.json").write_text(json.dumps({**verdict, "high": None}))
    assert "Reached" not in page([read(full_run)])


def test_a_run_without_bits_per_byte_is_judged_by_its_loss(full_run: Path, make_run: Callable[..., Path]) -> None:
    """Masked tokens: the loss is shown, and does not stand beside bits per byte."""
    path = make_run("bert", recipe="bert")
    kept = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()[:-1]]
    lines = [json.dumps({k: v for k, v in record.items() if k != "bpb"}) for record in kept]
    (path / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    (path / "prediction.json").unlink()
    figures = [{"name": "accuracy", "value": 0.25, "interval": [0.2, 0.3], "count": 99}]
    (path / "evaluation.json").write_text(json.dumps({"figures": figures, "notes": ["with fixed masks"]}))
    run = read(path)
    text = page([run])
    assert run.measure == "loss" and run.final() == kept[-2]["loss"]
    assert "Validation loss" in text and "Loss against tokens" in text and "its per byte" not in text
    assert "accuracy" in text and "0.2500" in text and "with fixed masks" in text
    both = page(read_all([path, full_run]))
    assert "Validation, bits per byte" in both and "Loss against" not in both
