"""The Ray engine: the folder it makes is that of the local one, also when a worker dies."""

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from genus.prepare import prepare, units
from genus.prepare.engines import engine
from genus.prepare.plan import Plan
from genus.prepare.ray_engine import TRIES, _unit
from genus.prepare.workspace import Workspace

OWN = Path(__file__).parent / "own"


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """Two workers on this machine."""
    ray = pytest.importorskip("ray")
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = str(OWN)
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level=40)
    yield
    ray.shutdown()
    os.environ.pop("PYTHONPATH")
    if before is not None:
        os.environ["PYTHONPATH"] = before


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Some units of text, and the folder of the steps of the tests."""
    monkeypatch.syspath_prepend(OWN)
    monkeypatch.setattr(units, "SMALLEST_UNIT", 6000)
    monkeypatch.setattr(units, "LARGEST_UNIT", 6000)
    (tmp_path / "a.txt").write_text("\n".join(f"{('the', 'a')[i % 3 == 0]} line with the number {i} in it" for i in range(500)))
    return tmp_path / "a.txt"


def contents(folder: Path) -> dict[str, str]:
    """Hash of every file."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.mark.usefixtures("cluster")
def test_two_workers_of_which_one_is_killed_make_the_same_folder(source: Path) -> None:
    fuse = source.with_name("fuse")
    told = {
        "split_documents": "line",
        "vocab": 300,
        "steps": ["own_steps.Shout", "own_steps.Often", f"own_steps.Dies:once={fuse}"],
    }
    local = prepare(source, source.with_name("local"), **told, workers=1)
    fuse.touch()
    ray = prepare(source, source.with_name("ray"), **told, engine="ray", workers=2)
    assert not fuse.exists(), "a worker died"
    assert contents(ray.root) == contents(local.root)
    assert local.manifest["funnel"][2]["facts"]["words"] == ["THE"]


@pytest.mark.usefixtures("cluster")
def test_what_a_step_complains_of_comes_back(source: Path) -> None:
    with pytest.raises(ValueError, match="the step loses made"):
        prepare(source, source.with_name("out"), split_documents="line", steps=["own_steps.Loses"], engine="ray", workers=2)
    assert (source.with_name("out.partial") / ".journal" / "plan.json").exists(), "what is finished is kept"


def test_a_machine_that_does_not_see_the_folder_says_so(tmp_path: Path) -> None:
    answer = _unit(pa.table({"unit": [3]}), str(tmp_path / "DATA.partial"), "key", "round-0")
    assert answer.column("unit").to_pylist() == [3] and "file system that all of them mount" in answer.column("error")[0].as_py()


def test_engines_that_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="--engine spark: give local, ray"), engine("spark", 1):
        pass
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    with pytest.raises(ValueError, match=r"genus\[ray\]"), engine("ray", 1):
        pass


def test_a_unit_that_kills_every_worker_is_given_up(tmp_path: Path) -> None:
    space = Workspace(tmp_path)
    space.journal.mkdir()
    (space.journal / "plan.json").write_text(json.dumps(Plan([], [[]], "file", {}).to_json()))
    space.file("round-0", 0, "tries").write_text("x" * TRIES)
    answer = _unit(pa.table({"unit": [0]}), str(tmp_path), "another key", "round-0")
    assert answer.to_pylist() == [{"unit": 0, "error": "", "died": True}] and not space.is_done("round-0", 0)
    space.file("round-0", 0, "tries").unlink()
    answer = _unit(pa.table({"unit": [0]}), str(tmp_path), "another key", "round-0")
    assert answer.to_pylist() == [{"unit": 0, "error": "", "died": False}] and space.is_done("round-0", 0)


def test_only_numbers_travel(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker needs the folder, the name of the stage and the number of the unit."""
    stages = []

    def look(space: object, plan: object, stage: str, waiting: list[int], done: object) -> None:
        for unit in waiting:
            answer = _unit(pa.table({"unit": [unit]}), str(space.folder), "key", stage)  # type: ignore[attr-defined]
            assert answer.to_pylist() == [{"unit": unit, "error": "", "died": False}]
            done(unit)  # type: ignore[operator]
        stages.append(stage)

    monkeypatch.setattr("genus.prepare.pool.Pool.__call__", lambda _, *told: look(*told))
    told = {"split_documents": "line", "tokenizer": "bytes", "steps": ["own_steps.Often"]}
    data = prepare(source, source.with_name("out"), **told)
    assert stages == ["round-0", "round-1", "encode"]
    assert json.loads((data.root / "manifest.json").read_text())["funnel"][1]["step"] == "often"
