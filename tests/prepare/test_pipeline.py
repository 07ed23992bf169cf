"""The whole way: from files to a folder, whatever the format, the number of workers or the number of kills."""

import gzip
import hashlib
import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from genus.prepare import Dataset, preparation, prepare, stages, units
from genus.prepare.tree import tree

from .dying import DYING

SENTENCES = ["The cat sat on the mat.", "床前明月光，疑是地上霜。", "It said <|endoftext|> and stopped.", "naïve 😀 \x07\r\nline"]


def corpus(folder: Path, count: int = 300) -> Path:
    folder.mkdir()
    dice = random.Random(0)
    lines = [f"{dice.choice(SENTENCES)} number {i} {dice.random()}" for i in range(count)]
    (folder / "a.txt").write_text("\n\n".join(lines[: count // 3]) + "\n", newline="")
    records = [json.dumps({"text": line}) for line in lines[count // 3 : 2 * count // 3]]
    records[3], records[7], records[9] = "{broken", '{"no": "text"}', records[8]
    (folder / "b.jsonl.gz").write_bytes(gzip.compress("\n".join(records).encode(), mtime=0))
    (folder / "c.md").write_text("\n\n".join(lines[2 * count // 3 :]), newline="")
    return folder


def contents(folder: Path) -> dict[str, str]:
    """Hash of every file."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture
def small_units(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(units, "SMALLEST_UNIT", 3000)
    monkeypatch.setattr(units, "LARGEST_UNIT", 3000)


def test_every_document_comes_back_letter_by_letter(tmp_path) -> None:
    corpus(tmp_path / "in")
    data = prepare(tmp_path / "in", tmp_path / "out", split_documents="blank-line", vocab=300)
    end = data.tokenizer.eos_id
    found = []
    for name in ("train", "validation", "test"):
        split = data.split(name)
        for i in range(split.documents):
            ids = split.document(i)
            assert ids[-1] == end and end not in ids[:-1]
            found.append(data.tokenizer.decode(ids))
            assert split.document_bytes[i] == len(found[-1].encode())
        assert split.bytes == split.document_bytes.sum() and split.tokens == split.ends[-1]
    expected = (tmp_path / "in" / "a.txt").read_bytes().decode().rstrip("\n").split("\n\n")
    expected += (tmp_path / "in" / "c.md").read_bytes().decode().split("\n\n")
    for line in gzip.decompress((tmp_path / "in" / "b.jsonl.gz").read_bytes()).decode().splitlines():
        expected += [json.loads(line)["text"]] if line.startswith('{"text"') else []
    assert sorted(found) == sorted(set(expected))
    assert data.manifest["drops"] == {"bad JSON": 1, "no field 'text'": 1, "repeated document": 1}
    rejected = [json.loads(line) for line in (tmp_path / "out/rejected/read.jsonl").read_text().splitlines()]
    assert [(r["line"], r["reason"]) for r in rejected] == [(4, "bad JSON"), (8, "no field 'text'")]
    assert rejected[0]["source"].endswith("b.jsonl.gz") and "{broken" in rejected[0]["excerpt"]
    assert not (tmp_path / "out.partial").exists() and not list((tmp_path / "out").glob(".*"))


@pytest.mark.parametrize("tokenizer", ["bytes", "chars", "words"])
def test_other_tokenizers_and_reuse(tokenizer: str, tmp_path) -> None:
    corpus(tmp_path / "in", 60)
    data = prepare(tmp_path / "in", tmp_path / "out", tokenizer=tokenizer, split_documents="blank-line")
    again = prepare(tmp_path / "in", tmp_path / "again", tokenizer=tmp_path / "out", split_documents="blank-line")
    assert again.fingerprint == data.fingerprint and again.tokenizer.kind == tokenizer
    text = data.tokenizer.decode(data.split("train").document(0))
    assert ("number" in text) and (tokenizer == "words" or text in (tmp_path / "in" / "a.txt").read_bytes().decode())


@pytest.mark.usefixtures("small_units")
def test_the_result_does_not_depend_on_workers(tmp_path) -> None:
    corpus(tmp_path / "in")
    one = prepare(tmp_path / "in", tmp_path / "one", split_documents="line", vocab=300, workers=1)
    three = prepare(tmp_path / "in", tmp_path / "three", split_documents="line", vocab=300, workers=3)
    assert contents(one.root) == contents(three.root)
    assert one.split("train").documents > 150


@pytest.mark.usefixtures("small_units")
def test_line_numbers_of_rejected_records_count_from_the_start_of_the_file(tmp_path) -> None:
    lines = [json.dumps({"text": f"document number {i} with some more words"}) for i in range(1000)]
    for bad in (0, 100, 555, 999):
        lines[bad] = "{" + str(bad)
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    (tmp_path / "b.jsonl").write_text("\n".join(lines[554:560]))
    data = prepare([tmp_path / "a.jsonl", tmp_path / "b.jsonl"], tmp_path / "out", tokenizer="bytes")
    rejected = [json.loads(line) for line in (tmp_path / "out/rejected/read.jsonl").read_text().splitlines()]
    assert [(Path(r["source"]).name, r["line"]) for r in rejected] == [
        ("a.jsonl", 1), ("a.jsonl", 101), ("a.jsonl", 556), ("a.jsonl", 1000), ("b.jsonl", 2),
    ]  # fmt: skip
    assert [source["rejected"] for source in data.manifest["sources"]] == [4, 1]


KILLED = f"""
{DYING}
import genus.prepare.units as units
units.SMALLEST_UNIT = units.LARGEST_UNIT = 3000
from genus.prepare import prepare
def run():
    prepare(sys.argv[1], sys.argv[2], split_documents="line", vocab=300, workers=1, overwrite=True)
if len(sys.argv) == 3:
    run()
kills = 0
for steps in map(int, sys.argv[3:]):
    if (child := os.fork()) == 0:  # no threads yet, for nothing was done but importing
        left = steps
        run()
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    if status == 0:
        break
    assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL, status
    kills += 1
print(kills)
"""


@pytest.mark.usefixtures("small_units")
@pytest.mark.parametrize("old", [False, True])
def test_killed_at_every_step_the_folder_is_bitwise_the_same(old: bool, tmp_path) -> None:
    """Every run dies at its n-th rename; the next goes on. Between renames nothing is declared finished."""
    corpus(tmp_path / "in")
    whole = prepare(tmp_path / "in", tmp_path / "whole", split_documents="line", vocab=300, workers=1)
    if old:
        prepare(tmp_path / "in" / "a.txt", tmp_path / "out", tokenizer="bytes")
    steps = [3, 1, *[6] * 5, 7, 8, 9, *[20] * 30]
    command = [sys.executable, "-c", KILLED, str(tmp_path / "in"), str(tmp_path / "out"), *map(str, steps)]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert int(result.stdout) >= 10
    assert contents(tmp_path / "out") == contents(whole.root)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "out", "whole"]


@pytest.mark.usefixtures("small_units")
def test_killed_at_random_moments_with_workers(tmp_path) -> None:
    corpus(tmp_path / "in", 600)
    whole = prepare(tmp_path / "in", tmp_path / "whole", split_documents="line", vocab=300, workers=1)
    script = KILLED.replace("workers=1", "workers=2")
    command = [sys.executable, "-c", script, str(tmp_path / "in"), str(tmp_path / "out")]
    dice = random.Random(1)
    for _ in range(3):
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        time.sleep(dice.uniform(0.3, 1.5))
        process.kill()
        process.wait()
    subprocess.run(command, check=True)
    assert contents(tmp_path / "out") == contents(whole.root)


@pytest.mark.usefixtures("small_units")
def test_a_restart_reuses_what_is_finished_and_another_plan_does_not(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    corpus(tmp_path / "in")
    done: list[str] = []
    run_unit = stages.run_unit
    monkeypatch.setattr(stages, "run_unit", lambda *told: (done.append(told[2]), run_unit(*told)))
    monkeypatch.setattr(preparation, "pack", _interrupt)
    options = {"split_documents": "line", "vocab": 300, "workers": 1}
    with pytest.raises(KeyboardInterrupt):
        prepare(tmp_path / "in", tmp_path / "out", **options)
    assert done.count("round-0") >= 5 and done.count("encode") == done.count("round-0")
    done.clear()
    with pytest.raises(KeyboardInterrupt):
        prepare(tmp_path / "in", tmp_path / "out", **options)
    assert done == []
    with pytest.raises(KeyboardInterrupt):
        prepare(tmp_path / "in", tmp_path / "out", **options | {"vocab": 310})
    assert done.count("round-0") >= 5
    done.clear()
    os.utime(tmp_path / "in" / "a.txt", ns=(1, 1))  # a source was touched
    with pytest.raises(KeyboardInterrupt):
        prepare(tmp_path / "in", tmp_path / "out", **options | {"vocab": 310})
    assert done.count("round-0") >= 5


def _interrupt(*arguments: object) -> None:
    raise KeyboardInterrupt


def test_a_single_file_is_cut_like_nanogpt(shared_data, tmp_path) -> None:
    file = shared_data / "tinyshakespeare" / "input.txt"
    data = prepare(file, tmp_path / "out", tokenizer="chars", validation=0.1, test=0)
    text = file.read_text()
    train, validation = data.split("train"), data.split("validation")
    assert (train.tokens, validation.tokens) == (1_003_854 + 1, 111_540 + 1)
    assert data.tokenizer.decode(train.document(0)) == text[:1_003_854]
    assert data.tokenizer.decode(validation.document(0)) == text[1_003_854:]
    assert data.tokenizer.vocab_size == 65 + 256 + 1
    with pytest.raises(ValueError, match=r"no 'test' split .*train, validation"):
        data.split("test")


def test_chinese_poems(shared_data, tmp_path) -> None:
    with gzip.open(shared_data / "tang_poetry" / "shi_tang.txt.gz", "rt", encoding="utf-8") as file:
        poems = file.read(150_000)
    (tmp_path / "poems.txt").write_text(poems, encoding="utf-8")
    data = prepare(tmp_path / "poems.txt", tmp_path / "out", split_documents="blank-line", vocab=2000)
    first = data.tokenizer.decode(data.split("train").document(0))
    assert first in poems and first.count("\n") >= 2
    assert data.manifest["characters_per_token"] < data.manifest["bytes_per_token"] / 2.5
    assert "characters per token" in tree(data.manifest, "out")
    assert data.manifest["splits"]["train"]["characters"] == sum(
        len(data.tokenizer.decode(data.split("train").document(i))) for i in range(data.split("train").documents)
    )


def test_a_file_too_large_for_one_document_is_cut_and_told(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("genus.prepare.plain.PIECE_BYTES", 1 << 20)
    monkeypatch.setattr("genus.prepare.units.PIECE_BYTES", 1 << 20)
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.txt").write_text("".join(f"line {i}\n" for i in range(300_000)))
    (tmp_path / "in" / "b.png").write_bytes(b"")
    data = prepare(tmp_path / "in", tmp_path / "out", tokenizer="bytes")
    account = tree(data.manifest, "out")
    assert "a.txt: too large for one document, cut at line ends into 3 of about" in account
    assert "files left aside: 1 .png" in account
    whole = "".join(data.tokenizer.decode(data.split("train").document(i)) for i in range(data.split("train").documents))
    whole += data.tokenizer.decode(data.split("validation").document(0)) + data.tokenizer.decode(data.split("test").document(0))
    assert whole == (tmp_path / "in" / "a.txt").read_text()
    assert data.split("test").bytes == pytest.approx(0.05 * len(whole), abs=1)


def test_validation_and_test_files(tmp_path) -> None:
    for name in ("train", "val", "test"):
        (tmp_path / f"{name}.txt").write_text("".join(f"{name} line {i}\n" for i in range(40)) + "a line in all\n")
    args = {"validation": tmp_path / "val.txt", "test": [tmp_path / "test.txt"], "split_documents": "line", "tokenizer": "bytes"}
    data = prepare(tmp_path / "train.txt", tmp_path / "out", **args)
    assert [data.split(name).documents for name in ("train", "validation", "test")] == [40, 41, 41]
    assert data.tokenizer.decode(data.split("validation").document(0)) == "val line 0"
    assert data.manifest["split_rule"] == "ready-made splits kept"
    kept = prepare(tmp_path / "train.txt", tmp_path / "kept", **args | {"test": None}, keep_repeats=True)
    assert kept.split("train").documents == 41 and kept.manifest["splits"]["test"]["documents"] == 0


def test_folder_with_train_and_test_gets_a_validation_split_and_keeps_its_test(tmp_path) -> None:
    for name in ("train", "test"):
        (tmp_path / "in" / name).mkdir(parents=True)
        (tmp_path / "in" / name / "part.jsonl").write_text("".join(f'{{"text": "{name} {i}"}}\n' for i in range(100)))
    data = prepare(tmp_path / "in", tmp_path / "out", tokenizer="bytes")
    assert [data.split(name).documents for name in ("train", "validation", "test")] == [95, 5, 100]
    assert data.tokenizer.decode(data.split("validation").document(0)).startswith("train")


def test_all_records_bad_is_an_error_that_says_why(tmp_path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": ""}\n{"text": 1}\n{oh\n')
    with pytest.raises(ValueError, match=r"no usable document .*bad JSON: 1.*rejected"):
        prepare(tmp_path / "a.jsonl", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert len((tmp_path / "out.partial/rejected/read.jsonl").read_text().splitlines()) == 3


def test_output_folders_that_are_not_ours_are_left_alone(tmp_path) -> None:
    (tmp_path / "a.txt").write_text("some text " * 100)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("x")
    for overwrite in (False, True):
        with pytest.raises(ValueError, match=r"was not made by|not a data folder made by"):
            prepare(tmp_path / "a.txt", tmp_path / "mine", overwrite=overwrite)
    (tmp_path / "out.partial").mkdir()
    (tmp_path / "out.partial" / "thesis.tex").write_text("x")
    with pytest.raises(ValueError, match="was not made by"):
        prepare(tmp_path / "a.txt", tmp_path / "out")
    assert (tmp_path / "mine" / "thesis.tex").exists() and (tmp_path / "out.partial" / "thesis.tex").exists()
    data = prepare(tmp_path / "a.txt", tmp_path / "good", tokenizer="bytes")
    with pytest.raises(ValueError, match="--overwrite"):
        prepare(tmp_path / "a.txt", tmp_path / "good", tokenizer="chars")
    assert prepare(tmp_path / "a.txt", tmp_path / "good", tokenizer="chars", overwrite=True).fingerprint != data.fingerprint


def test_two_runs_into_one_folder(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.txt").write_text("some text " * 100)

    def meanwhile(*arguments: object) -> None:
        with pytest.raises(ValueError, match="another genus prepare"):
            prepare(tmp_path / "a.txt", tmp_path / "out", tokenizer="bytes")
        raise KeyboardInterrupt

    monkeypatch.setattr(preparation, "pack", meanwhile)
    with pytest.raises(KeyboardInterrupt):
        prepare(tmp_path / "a.txt", tmp_path / "out", tokenizer="bytes")


def test_a_source_is_read_once(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is done to it afterwards does no harm."""
    (tmp_path / "a.txt").write_text("some text " * 100)
    whole = prepare(tmp_path / "a.txt", tmp_path / "whole", tokenizer="bytes")

    def change(*arguments: object, **more: object) -> None:
        (tmp_path / "a.txt").unlink()
        return assign(*arguments, **more)

    assign = preparation.assign
    monkeypatch.setattr(preparation, "assign", change)
    assert prepare(tmp_path / "a.txt", tmp_path / "out", tokenizer="bytes").fingerprint == whole.fingerprint


def test_wrong_values_say_what_to_do(tmp_path) -> None:
    (tmp_path / "a.txt").write_text("some text " * 100)
    for options, message in (
        ({"split_documents": "page"}, "file, blank-line, line"),
        ({"workers": 0}, "at least one"),
        ({"vocab": 100}, "too small"),
        ({"vocab": -1}, "at least one entry"),
        ({"validation": 0.9, "test": 0.2}, "leave something to train on"),
        ({"tokenizer": "wordpiece"}, "give bpe, unigram, bytes, chars, words"),
    ):
        with pytest.raises(ValueError, match=message):
            prepare(tmp_path / "a.txt", tmp_path / "out", **options)


def test_the_same_content_elsewhere_has_the_same_fingerprint(tmp_path) -> None:
    for name in ("one", "two"):
        corpus(tmp_path / name)
    one = prepare(tmp_path / "one", tmp_path / "a", tokenizer="bytes", split_documents="line")
    two = prepare(tmp_path / "two", tmp_path / "b", tokenizer="bytes", split_documents="line")
    assert one.fingerprint == two.fingerprint
    other = prepare(tmp_path / "two", tmp_path / "c", tokenizer="bytes", split_documents="line", keep_repeats=True)
    assert other.fingerprint != one.fingerprint


def test_large_vocabularies_take_four_bytes(tmp_path) -> None:
    characters = "".join(chr(0x4E00 + i) for i in range(20_000)) + "".join(chr(0x20000 + i) for i in range(46_000))
    (tmp_path / "a.txt").write_text(characters)
    data = prepare(tmp_path / "a.txt", tmp_path / "out", tokenizer="chars", validation=0, test=0)
    assert data.split("train").read(0, 5).dtype == np.uint32
    assert data.tokenizer.decode(data.split("train").document(0)) == characters


def test_a_folder_opened_anew_is_the_same(tmp_path) -> None:
    data = prepare(corpus(tmp_path / "in"), tmp_path / "out", tokenizer="bytes")
    again = Dataset.open(tmp_path / "out", verify=True)
    assert again.manifest == data.manifest
