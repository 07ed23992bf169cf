"""Cleaning in rounds: what steps and surveys do ends in the funnel and in rejected/, however often it is interrupted."""

import hashlib
import json
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from genus.prepare import prepare, units
from genus.prepare.pipeline import dry_run
from genus.prepare.tree import tree

from .dying import DYING

OWN = Path(__file__).parent / "own"
STEPS = ("own_steps.Shout", "own_steps.Often", "own_steps.Shout:drop=5", "own_steps.OftenAgain:most=2")
FIRST = ["the", "a", "one", "some", "no"]


@pytest.fixture(autouse=True)
def small_units(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(OWN)
    monkeypatch.setenv("PYTHONPATH", str(OWN))  # for the workers
    monkeypatch.setattr(units, "SMALLEST_UNIT", 4000)
    monkeypatch.setattr(units, "LARGEST_UNIT", 4000)


def corpus(folder: Path, count: int = 400) -> Path:
    """Numbered lines; a tenth of the records of the second file cannot be read."""
    folder.mkdir()
    dice = random.Random(3)
    lines = [
        f"{dice.choices(FIRST, [9, 5, 3, 2, 1])[0]} line of the text has the number {i} and {dice.random()}" for i in range(count)
    ]
    (folder / "a.txt").write_text("\n".join(lines[: count // 2]))
    records = [json.dumps({"text": line}) if i % 10 else "{oh" for i, line in enumerate(lines[count // 2 :])]
    (folder / "b.jsonl").write_text("\n".join(records))
    return folder


def contents(folder: Path) -> dict[str, str]:
    """Hash of every file."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def rejected(folder: Path) -> Iterator[dict]:
    for path in sorted((folder / "rejected").iterdir()):
        for line in path.read_text().splitlines():
            record = json.loads(line)
            assert record["step"] == path.stem
            yield record


def options(**more: object) -> dict:
    return {"split_documents": "line", "tokenizer": "bytes", "steps": ("own_steps.Shout", "own_steps.Often:most=2")} | more


def test_funnel_and_rejected_tell_what_became_of_every_document(tmp_path) -> None:
    data = prepare(corpus(tmp_path / "in"), tmp_path / "out", **options(workers=1))
    read, shout, often, repeats = data.manifest["funnel"]
    assert [entry["step"] for entry in (read, shout, often, repeats)] == ["read", "shout", "often", "repeats"]
    assert (read["documents"], read["dropped"]) == (380, {"bad JSON": 20})
    texts = (tmp_path / "in" / "a.txt").read_text().splitlines()
    texts += [json.loads(line)["text"] for line in (tmp_path / "in" / "b.jsonl").read_text().splitlines() if line != "{oh"]
    assert read["bytes"] == sum(map(len, texts))
    numbers = [int(text.split(" number ")[1].split()[0]) for text in texts]
    kept = [text.replace("the", "THE") for text, number in zip(texts, numbers, strict=True) if number % 7]
    assert shout["documents"] == len(kept) and shout["dropped"] == {"unlucky": 380 - len(kept)}
    assert shout["changed"] == {"shouted": 380} and shout["facts"] == {"words": 380} and shout["bytes"] == sum(map(len, kept))
    assert often["facts"] == {"seen": len(kept), "words": ["THE", "a"]}
    left = [text for text in kept if text.split()[0] not in ("THE", "a")]
    assert often["documents"] == repeats["documents"] == len(left) and often["dropped"] == {"too often": len(kept) - len(left)}
    stored = [
        data.tokenizer.decode(data.split(s).document(i)) for s in data.manifest["splits"] for i in range(data.split(s).documents)
    ]
    assert sorted(stored) == sorted(left)
    assert data.manifest["drops"] == {"bad JSON": 20} | shout["dropped"] | often["dropped"]
    told = list(rejected(data.root))
    assert len(told) == 20 + 380 + sum(shout["dropped"].values()) + sum(often["dropped"].values())
    assert data.manifest["rejected"] == sum(record["action"] == "dropped" for record in told)
    assert sum(source["rejected"] for source in data.manifest["sources"]) == data.manifest["rejected"]
    lines = {name: (tmp_path / "in" / name).read_text().splitlines() for name in ("a.txt", "b.jsonl")}
    for record in told:  # every one stands where it says
        line = lines[Path(record["source"]).name][record["line"] - 1]
        assert record["excerpt"].removesuffix(line).endswith(": ") if record["step"] == "read" else True
        number = record["excerpt"].split(" number ")[-1].split()[0]
        assert number in line or record["step"] == "read"
    change = next(record for record in told if record["action"] == "changed")
    assert change["excerpt"].startswith("no line of the") or "the" in change["excerpt"]
    assert change["after"] == change["excerpt"].replace("the", "THE")
    account = tree(data.manifest, "out")
    assert "├─ funnel" in account and f"dropped {shout['dropped']['unlucky']} unlucky; changed 380 shouted" in account


def test_workers_and_rounds_leave_no_trace_in_the_result(tmp_path) -> None:
    steps = ("own_steps.Shout", "own_steps.Often", "own_steps.OftenAgain")
    corpus(tmp_path / "in")
    one = prepare(tmp_path / "in", tmp_path / "one", **options(steps=steps, workers=1))
    two = prepare(tmp_path / "in", tmp_path / "two", **options(steps=steps, workers=2))
    assert contents(one.root) == contents(two.root)
    assert [entry["step"] for entry in one.manifest["funnel"]] == ["read", "shout", "often", "often-again", "repeats"]
    assert one.manifest["funnel"][2]["facts"]["words"] == ["THE"] and one.manifest["funnel"][3]["facts"]["words"] == ["a"]


def test_workers_stay_from_one_stage_to_the_next(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    started, start = [], subprocess.Popen

    def count(*words: object, **told: object) -> subprocess.Popen:
        started.append(start(*words, **told))  # type: ignore[call-overload]
        return started[-1]

    monkeypatch.setattr(subprocess, "Popen", count)
    data = prepare(corpus(tmp_path / "in"), tmp_path / "out", **options(workers=2))
    assert len(data.manifest["funnel"]) == 4 and len(started) == 2, "two rounds and tokenizing, two processes"
    assert all(child.poll() is not None for child in started), "none outlives the command"


KILLED = f"""
{DYING}
import genus.prepare.units as units
from genus.prepare import pipeline
units.SMALLEST_UNIT = units.LARGEST_UNIT = 12_000
steps = ("own_steps.Shout", "own_steps.Often", "own_steps.OftenAgain")
kills, stages = 0, set()
while True:
    child = os.fork()  # no threads yet: the parent only imports
    if child == 0:
        left = 5 + 6 * (kills % 4)  # one unit of a round, up to all of packing
        pipeline.prepare(sys.argv[1], sys.argv[2], split_documents="line", tokenizer="bytes", steps=steps, workers=1)
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    if status == 0:
        break
    assert os.WTERMSIG(status) == signal.SIGKILL, status
    kills += 1
    journal = sys.argv[2] + ".partial/.journal"
    if os.path.isdir(journal):
        stages |= {{name.split("-0000")[0] for name in os.listdir(journal) if name.endswith(".json")}}
print(kills, *sorted(stages))
"""


def test_killed_in_every_round_the_folder_is_bitwise_the_same(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every run dies at one of its first renames, between any two of which nothing is declared finished; the next goes on."""
    monkeypatch.setattr(units, "SMALLEST_UNIT", 12_000)
    monkeypatch.setattr(units, "LARGEST_UNIT", 12_000)
    corpus(tmp_path / "in")
    steps = ("own_steps.Shout", "own_steps.Often", "own_steps.OftenAgain")
    whole = prepare(tmp_path / "in", tmp_path / "whole", **options(steps=steps, workers=1))
    command = [sys.executable, "-c", KILLED, str(tmp_path / "in"), str(tmp_path / "out")]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    kills, *stages = result.stdout.split()
    assert int(kills) > 4
    assert {"round-0", "round-1", "round-2", "decision-1.json", "decision-2.json", "encode"} <= set(stages)
    assert contents(tmp_path / "out") == contents(whole.root)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "out", "whole"]


def test_a_worker_killed_in_the_middle_loses_nothing(tmp_path) -> None:
    corpus(tmp_path / "in")
    fuse = tmp_path / "fuse"
    steps = ("own_steps.Shout", f"own_steps.Dies:once={fuse}")
    whole = prepare(tmp_path / "in", tmp_path / "whole", **options(steps=steps, workers=1))
    fuse.touch()
    with pytest.raises(RuntimeError, match=r"exit status -9 .* what is finished is kept"):
        prepare(tmp_path / "in", tmp_path / "out", **options(steps=steps, workers=2))
    assert not fuse.exists()
    again = prepare(tmp_path / "in", tmp_path / "out", **options(steps=steps, workers=2))
    assert contents(again.root) == contents(whole.root)


def test_what_is_stored_between_rounds_is_removed(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    left: list[str] = []

    def look(space: object, *_: object) -> None:
        left.extend(path.name for path in space.journal.iterdir() if path.suffix in (".arrow", ".observed") or path.is_dir())  # type: ignore[attr-defined]
        raise KeyboardInterrupt

    monkeypatch.setattr("genus.prepare.preparation.pack", look)
    with pytest.raises(KeyboardInterrupt):
        prepare(corpus(tmp_path / "in"), tmp_path / "out", **options(workers=1))
    assert left and all(name.startswith("round-1-") and name.endswith(".arrow") for name in left)


def test_a_step_that_loses_documents_is_named(tmp_path) -> None:
    with pytest.raises(ValueError, match=r"the step loses made .* documents of .* and told of 0 drops"):
        prepare(corpus(tmp_path / "in"), tmp_path / "out", **options(steps=["own_steps.Loses"], workers=1))


def test_steps_that_leave_nothing_say_why(tmp_path) -> None:
    with pytest.raises(ValueError, match=r"no usable document .*unlucky: 380, bad JSON: 20.*rejected"):
        prepare(corpus(tmp_path / "in"), tmp_path / "out", **options(steps=["own_steps.Shout:drop=1"], workers=1))


def test_other_settings_are_another_plan(tmp_path) -> None:
    corpus(tmp_path / "in")
    one = prepare(tmp_path / "in", tmp_path / "one", **options(steps=["own_steps.Shout"], workers=1))
    other = prepare(tmp_path / "in", tmp_path / "two", **options(steps=["own_steps.Shout:drop=3"], workers=1))
    seeded = prepare(tmp_path / "in", tmp_path / "three", **options(steps=["own_steps.Shout"], workers=1, seed=1))
    assert len({one.fingerprint, other.fingerprint, seeded.fingerprint}) == 3
    assert one.manifest["options"]["steps"] == [{"step": "own_steps.Shout", "drop": 7}]
    assert one.manifest["funnel"] == seeded.manifest["funnel"], "the seed holds other documents out"


def test_a_dry_run_tells_and_writes_nothing(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    corpus(tmp_path / "in")
    before = contents(tmp_path)
    monkeypatch.setattr("genus.prepare.dry_run.CHARACTERS", 6000)
    said = dry_run(tmp_path / "in", split_documents="line", steps=["own_steps.Shout", "own_steps.Often"], workers=1)
    assert contents(tmp_path) == before
    read = int(said.split("dry run: ")[1].split()[0])
    assert 60 < read < 200, "the beginning of every unit"
    assert "nothing is written" in said and "read " in said and "changed" in said and "often: counted within the sample" in said
    assert said.count("shout: unlucky") == 1 and ("a.txt" in said or "b.jsonl" in said) and "THE" in said
