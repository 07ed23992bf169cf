"""`genus generate` on a model saved in a folder."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from genus import cli
from genus.export import huggingface
from genus.run import Loaded


@pytest.fixture(params=["llama", "lstm"])
def folder(request: pytest.FixtureRequest, small: Callable[..., Loaded], tmp_path: Path) -> Path:
    loaded = small(request.param)
    huggingface.save(tmp_path / "model", loaded.model, loaded.spec, loaded.tokenizer, context=64)
    return tmp_path / "model"


def output(capsys: pytest.CaptureFixture[str], *words: object, status: int = 0) -> str:
    assert cli.main(["generate", *map(str, words)]) == status
    shown = capsys.readouterr()
    return shown.err if status else shown.out


def test_the_prompt_is_continued(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shown = output(capsys, folder, "In the beginning", "--max-tokens", 8)
    assert shown.startswith("In the beginning") and len(shown) > len("In the beginning\n")
    assert shown == output(capsys, folder, "In the beginning", "--max-tokens", 8)
    assert shown != output(capsys, folder, "In the beginning", "--max-tokens", 8, "--seed", 1)


def test_several_texts_come_in_order(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("one", "a rather longer prompt", "--max-tokens", 8, "-n", 2, "--temperature", 1.2)
    shown = output(capsys, folder, *words)
    heads = [line for line in shown.split("\n") if line.startswith("--- ")]
    assert heads == ["--- 1/4", "--- 2/4", "--- 3/4", "--- 4/4"]
    assert shown == output(capsys, folder, *words, "--batch", 1)


def test_a_file_of_prompts_gives_a_file_of_texts(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prompts, out = tmp_path / "prompts.jsonl", tmp_path / "out.jsonl"
    prompts.write_text('{"prompt": "春", "id": 7}\n\n{"text": "Go"}\n', encoding="utf-8")
    assert output(capsys, folder, "--file", prompts, "-o", out, "--max-tokens", 5, "--temperature", 0, "-n", 2) == ""
    records = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    assert [(r["prompt"], r["sample"], r.get("id")) for r in records] == [
        ("春", 0, 7), ("春", 1, 7), ("Go", 0, None), ("Go", 1, None)
    ]  # fmt: skip
    assert all(r["finish"] in ("length", "end") and r["tokens"] <= 5 for r in records)
    assert records[0]["text"] == records[1]["text"]  # greedy
    printed = output(capsys, folder, "Go", "--max-tokens", 5, "--temperature", 0)
    assert printed == "Go" + records[2]["text"] + "\n"


def test_a_text_file_has_a_prompt_on_every_line(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "p.txt").write_text("one\n\ntwo\n")
    shown = output(capsys, folder, "zero", "--file", tmp_path / "p.txt", "--max-tokens", 2)
    for place, prompt in enumerate(("zero", "one", "two"), start=1):
        assert f"--- {place}/3\n{prompt}" in shown


def test_stop_strings(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    free = output(capsys, folder, "x", "--max-tokens", 30, "--temperature", 0)[1:-1]
    end = free[len(free) // 2 : len(free) // 2 + 2]
    stopped = output(capsys, folder, "x", "--max-tokens", 30, "--temperature", 0, "--stop", "never", "--stop", end)
    assert stopped == "x" + free[: free.index(end)] + "\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "no prompt"),
        (("x", "--top-p", "2"), "top-p"),
        (("x", "--max-tokens", "0"), "max_tokens"),
        (("x", "-n", "0"), "--number"),
        (("--file", "missing.txt"), "missing.txt"),
        (("--file", "bad.jsonl"), "bad.jsonl:2: not JSON"),
        (("--file", "odd.jsonl"), 'odd.jsonl:1: the record has no string "prompt"'),
    ],
)
def test_mistakes_are_explained(
    small: Callable[..., Loaded], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
    words: tuple[str, ...], message: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.jsonl").write_text('{"prompt": "x"}\n{"prompt": \n')
    (tmp_path / "odd.jsonl").write_text('{"question": "x"}\n')
    loaded = small("gpt2", dim=16, depth=1)
    huggingface.save(tmp_path / "model", loaded.model, loaded.spec, loaded.tokenizer, context=64)
    assert message in output(capsys, "model", *words, status=2)


def test_a_folder_without_a_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "neither a run nor a model folder" in output(capsys, tmp_path, "x", status=2)


def test_probabilities_are_shown(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = (folder, "In", "--max-tokens", 4, "--temperature", 0, "--logprobs", 2)
    lines = [line for line in output(capsys, *words).split("\n") if line.endswith(" %")]
    assert len(lines) == 4
    for line in lines:
        chosen, others = line.split("   of ")
        assert chosen.split()[-2:] == others.split(", ")[0].split()[-2:]  # greedy: the chosen one is the most probable
        assert others.count(" %") == 2
    output(capsys, *words, "-o", tmp_path / "out.jsonl")
    (record,) = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines()]
    assert len(record["logprobs"]) == 4 and record["logprobs"][0]["top"][0]["id"] == record["logprobs"][0]["id"]
    assert record["logprobs"][0]["logprob"] < 0


def test_bytes_of_a_character_are_shown_as_such(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shown = output(capsys, folder, "x", "--max-tokens", 3, "--choice", "春", "--logprobs", 0)
    assert [line.split()[0] for line in shown.splitlines()[1:]] == ['"\\xe6"', '"\\x98"', '"\\xa5"']


def test_rules_reach_the_model(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = (folder, "x", "--max-tokens", 12, "--temperature", 0)
    free = output(capsys, *words)
    assert output(capsys, *words, "--logit-bias", "q=100") == "x" + "q" * 12 + "\n"
    biases = ("--logit-bias", "113=100", "--logit-bias", "q=-100", "--logit-bias", "z=90")
    assert output(capsys, *words, *biases) == "x" + "z" * 12 + "\n"
    for option in ("--repetition-penalty", "--frequency-penalty", "--presence-penalty"):
        assert output(capsys, *words, option, "30") != free


def test_forms(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("llguidance")
    (tmp_path / "schema.json").write_text('{"type": "array", "items": {"enum": [1, 2]}, "minItems": 2, "maxItems": 2}')
    assert json.loads(output(capsys, folder, "", "--json-schema", tmp_path / "schema.json")) in ([1, 1], [1, 2], [2, 1], [2, 2])
    assert output(capsys, folder, "It is ", "--choice", "yes", "--choice", "no") in ("It is yes\n", "It is no\n")
    assert output(capsys, folder, "", "--regex", "a{3}") == "aaa\n"


def test_the_best_of_several_texts(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "o.jsonl"
    output(capsys, folder, "x", "--best-of", 5, "-n", 2, "--max-tokens", 4, "-o", out)
    first, second = (json.loads(line) for line in out.read_text(encoding="utf-8").splitlines())
    assert first["score"] >= second["score"] and "logprobs" not in first


def test_a_draft(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    words = (folder, "x", "--max-tokens", 12, "--temperature", 0)
    assert output(capsys, *words, "--draft", folder, "--draft-tokens", 3) == output(capsys, *words)
    assert cli.main([str(w) for w in ("generate", *words, "--draft", folder, "-o", tmp_path / "o.jsonl")]) == 0
    assert "100 % of" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("x", "--choice", "a", "--regex", "b"), "--regex and --choice cannot both hold"),
        (("x", "--regex", "("), "regular expression: "),
        (("x", "--json-schema", "none.json"), "none.json"),
        (("x", "--json-schema", "bad.json"), "bad.json: the schema is not JSON: line 1, column 2"),
        (("x", "--logit-bias", "the"), "TOKEN=NUMBER"),
        (("x", "--logit-bias", "the=1"), "'the' is 3 tokens"),
        (("x", "--logit-bias", "999=1"), "there is no token 999"),
        (("x", "--logit-bias", "3=101"), "from -100"),
        (("x", "--repetition-penalty", "0"), "repetition penalty"),
        (("x", "--logprobs", "-1"), "logprobs"),
        (("x", "--best-of", "1", "-n", "2"), "sample at least 2"),
        (("x", "--best-of", "2", "--beam", "2"), "--beam and --best-of do not go together"),
        (("x", "--beam", "2", "--draft", "model"), "leave out --beam"),
        (("x", "--beam", "2", "--choice", "a"), "a beam search knows no constraint"),
        (("x", "--draft", "nowhere"), "neither a run nor a model folder"),
        (("x", "--draft", "model", "--draft-tokens", "0"), "at least 1"),
    ],
)
def test_wishes_that_cannot_be_met(
    small: Callable[..., Loaded], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
    words: tuple[str, ...], message: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.json").write_text("{")
    loaded = small("gpt2", dim=16, depth=1)
    huggingface.save(tmp_path / "model", loaded.model, loaded.spec, loaded.tokenizer, context=64)
    assert message in output(capsys, "model", *words, status=2)
