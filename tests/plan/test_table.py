"""A table of runs: reading, refusing, budgets."""

import gzip
import json
from pathlib import Path

import numpy as np
import pytest

from genus.plan.table import Runs, near_optimal

ROWS = [
    {"N": 1e6, "D": 1e8, "loss": 4.0, "run_name": "a"},
    {"N": 1e6, "D": 2e8, "loss": 3.8, "run_name": "a"},
    {"N": 4e6, "D": 1e8, "loss": 3.5, "run_name": "b"},
]


def test_the_same_table_from_every_kind_of_file(tmp_path: Path) -> None:
    csv = "N,D,loss,run_name\n" + "".join(f"{r['N']},{r['D']},{r['loss']},{r['run_name']}\n" for r in ROWS)
    lines = "".join(json.dumps(r) + "\n" for r in ROWS)
    (tmp_path / "a.csv").write_text(csv)
    (tmp_path / "a.tsv").write_text(csv.replace(",", "\t"))
    (tmp_path / "a.jsonl").write_text(lines + "\n")
    with gzip.open(tmp_path / "a.csv.gz", "wt") as file:
        file.write(csv)
    with gzip.open(tmp_path / "b.jsonl.gz", "wt") as file:
        file.write(lines)
    for path in sorted(tmp_path.iterdir()):
        runs = Runs.read(path)
        assert runs.params.tolist() == [1e6, 1e6, 4e6] and runs.tokens.tolist() == [1e8, 2e8, 1e8]
        assert runs.loss.tolist() == [4.0, 3.8, 3.5] and runs.run.tolist() == ["a", "a", "b"]
        assert runs.trajectory.tolist() == [0, 0, 1] and runs.name == path.name
        assert np.allclose(runs.compute, [6e14, 12e14, 24e14])


def test_columns_can_be_named_and_rows_chosen() -> None:
    rows = [{"size": 1e6 * i, "tokens": 1e9, "c4": i, "loss": 9, "dataset": "xy"[i % 2]} for i in range(1, 5)]
    runs = Runs.from_rows(rows, columns={"params": "size", "loss": "c4"}, where={"dataset": "y"})
    assert runs.params.tolist() == [1e6, 3e6] and runs.loss.tolist() == [1, 3]
    with pytest.raises(ValueError, match="no column 'c5' for loss; there is size, tokens, c4"):
        Runs.from_rows(rows, columns={"loss": "c5", "params": "size"})
    with pytest.raises(ValueError, match="no row has dataset = 'z'; there is x, y"):
        Runs.from_rows(rows, where={"dataset": "z"})
    with pytest.raises(ValueError, match="has no lr; it has params"):
        Runs.from_rows(rows, columns={"lr": "size"})


def test_a_missing_column_is_named_with_what_would_do_and_what_is_there() -> None:
    with pytest.raises(ValueError, match=r"missing column tokens \(or .*training_tokens.*Found: N, loss") as raised:
        Runs.from_rows([{"N": 1, "loss": 2}], name="mine.csv")
    assert "mine.csv" in str(raised.value) and "tokens=COLUMN" in str(raised.value)
    with pytest.raises(ValueError, match=r"missing columns params .*; tokens .*; loss"):
        Runs.from_rows([{"x": 1}])
    with pytest.raises(ValueError, match="no rows"):
        Runs.from_rows([])


@pytest.mark.parametrize("bad", ["nan", "inf", "-1", "0", "", "diverged", None])
def test_a_loss_that_is_no_positive_number_is_refused_by_row(bad: str | None) -> None:
    rows = [*ROWS, {"N": 1e6, "D": 1e8, "loss": bad, "run_name": "c"}]
    with pytest.raises(ValueError, match=r"'loss' must be a positive number, but 1 of 4 rows .*row 4"):
        Runs.from_rows(rows)
    assert len(Runs.from_rows(rows, drop=True)) == 3 and Runs.from_rows(rows, drop=True).left_out == len(rows) - 3


def test_files_that_are_no_tables(tmp_path: Path) -> None:
    (tmp_path / "a.xlsx").write_text("x")
    (tmp_path / "a.jsonl").write_text('{"N": 1}\nnot json\n')
    (tmp_path / "b.jsonl").write_text("[1, 2]\n")
    with pytest.raises(ValueError, match=r"save a spreadsheet as \.csv"):
        Runs.read(tmp_path / "a.xlsx")
    with pytest.raises(ValueError, match=r"a\.jsonl:2: bad JSON"):
        Runs.read(tmp_path / "a.jsonl")
    with pytest.raises(ValueError, match=r":1: not an object with named columns"):
        Runs.read(tmp_path / "b.jsonl")
    with pytest.raises(ValueError, match="no such file"):
        Runs.read(tmp_path / "none.csv")


def test_an_optional_column_may_be_empty_but_not_have_holes() -> None:
    assert Runs.from_rows([{**r, "unique": ""} for r in ROWS]).unique is None
    with pytest.raises(ValueError, match="'unique' must be a positive number, but 2 of 3"):
        Runs.from_rows([{**r, "unique": u} for r, u in zip(ROWS, ["1e8", "", ""])])


def test_lengths_must_agree_and_masks_keep_every_column() -> None:
    with pytest.raises(ValueError, match="'tokens' has 1 rows, the loss has 2"):
        Runs(np.ones(2), np.ones(1), np.ones(2))
    runs = Runs(np.arange(1.0, 5), np.arange(2.0, 6), np.ones(4), unique=np.arange(3.0, 7), name="x")
    part = runs[runs.params > 2]
    assert len(part) == 2 and part.unique.tolist() == [5, 6] and part.run.tolist() == ["2", "3"] and part.name == "x"
    assert len(runs[:3]) == 3 and runs[[3, 0]].params.tolist() == [4, 1]


def test_budgets_group_nearly_equal_compute() -> None:
    compute = np.array([1.0, 10.4, 1.05, 10.0, 100.0, 1.2])
    runs = Runs(np.ones(6), np.ones(6), np.ones(6), flops=compute)
    assert runs.budgets().tolist() == [0, 2, 0, 2, 3, 1]
    assert runs.budgets(tolerance=0.01).tolist() == [0, 4, 1, 3, 5, 2]


def test_near_optimal_keeps_what_is_close_to_the_best_of_its_budget() -> None:
    runs = Runs(np.ones(6), np.ones(6), np.array([4.0, 4.2, 4.5, 3.0, 3.3, 3.2]), flops=np.array([1, 1, 1, 10, 10, 10.5]))
    assert near_optimal(runs).tolist() == [1, 1, 0, 1, 0, 1]
    assert near_optimal(runs, within=0.2).all()
    # Without equal budgets: worse than a run that cost less is not near the best.
    assert near_optimal(Runs(np.ones(3), np.ones(3), np.array([3.0, 4.0, 2.5]), flops=np.array([1.0, 2, 4]))).tolist() == [
        1,
        0,
        1,
    ]
