"""Which task a file of labels asks for, and what is said when none can be told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from genus.prepare.records import Records, read
from genus.spec import from_json, to_json
from genus.tune.task import Wishes
from genus.tune.tasks import TASKS, infer
from genus.tune.tasks.classification import Classification
from genus.tune.tasks.questions import QuestionAnswering
from genus.tune.tasks.regression import Regression
from genus.tune.tasks.tagging import Tagging


def _of(**columns: list[Any]) -> Records:
    return Records.of([dict(zip(columns, values)) for values in zip(*columns.values())])


SQUAD = {"context": ["Anna lives in Rome."], "question": ["Where?"], "answers": [{"text": ["Rome"], "answer_start": [14]}]}


@pytest.mark.parametrize(
    ("records", "wanted"),
    [
        (_of(text=["a", "b", "c"], label=["x", "y", "x"]), Classification("text", None, "label", ("x", "y"))),
        (_of(Review=["a", "b"], Stars=[5, 1]), Classification("Review", None, "Stars", ("1", "5"))),
        (
            _of(sentence1=["a", "b"], sentence2=["c", "d"], label=[0, 1]),
            Classification("sentence1", "sentence2", "label", ("0", "1")),
        ),
        (
            _of(sentence=["a"] * 12, label=[*"0123456789", "10", "2"]),
            Classification("sentence", None, "label", tuple(map(str, range(11)))),
        ),
        (_of(text=["a", "b"], score=["1.5", "2.5"]), Regression("text", None, "score", 2.0, 0.5)),
        (_of(text=["a"] * 30, score=list(range(30))), Regression("text", None, "score", 14.5, 8.65544144839919)),
        (_of(words=[["a", "b"], ["c"]], tags=[["O", "B-X"], ["O"]]), Tagging("words", "tags", ("O", "B-X"))),
        (_of(tokens=["a b", "c d"], ner_tags=["O B-X", "O O"]), Tagging("tokens", "ner_tags", ("O", "B-X"))),
        (_of(**SQUAD), QuestionAnswering("context", "question", "answers")),
    ],
)
def test_the_columns_tell(records: Records, wanted: Any) -> None:
    found = infer(records, Wishes())
    assert found == wanted and from_json(to_json(found)) == found
    assert found.name in found.because(records)


def test_it_is_said_why() -> None:
    records = _of(text=["a", "b", "c"], label=["x", "y", "x"])
    assert (
        infer(records, Wishes()).because(records).startswith("'label' has 2 different values in 3 rows: classification of 'text'")
    )


def test_wishes() -> None:
    records = _of(text=["a", "b"], note=["c", "d"], label=["1.5", "2.5"], kind=["x", "y"])
    assert infer(records, Wishes(label="kind")) == Classification("text", None, "kind", ("x", "y"))
    assert infer(records, Wishes("classification")).labels == ("1.5", "2.5")
    assert infer(records, Wishes(text="note", pair="text", label="kind")) == Classification("note", "text", "kind", ("x", "y"))
    assert infer(_of(text=["a", "b"], label=[1, 2]), Wishes("regression")).mean == 1.5


@pytest.mark.parametrize(
    ("wishes", "message"),
    [
        (
            Wishes(label="lable"),
            r"no column 'lable' in the records \(name one with --label\); there are text, label \(did you mean 'label'",
        ),
        (Wishes(task="clasification"), "no task 'clasification'; did you mean 'classification'"),
        (Wishes(task="questions"), "looks like contexts in the records .*; there are text, label"),
        (Wishes(task="tagging", text="text", label="label"), "holds 1 different tags|different tags"),
    ],
)
def test_wishes_that_cannot_be_met(wishes: Wishes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        infer(_of(text=["a", "b"], label=["x", "x"]), wishes)


def test_labels_that_cannot_be_learnt() -> None:
    with pytest.raises(ValueError, match="'label' of the records holds only 'x'; at least two"):
        infer(_of(text=["a", "b"], label=["x", "x"]), Wishes())
    with pytest.raises(ValueError, match="1,200 different values in 1,200 rows"):
        infer(_of(text=["a"] * 1200, label=[f"id {i}" for i in range(1200)]), Wishes())
    with pytest.raises(ValueError, match=r"cannot tell what the labels .* columns are a, b\. Name the columns with --text"):
        infer(_of(a=["x"], b=["y"]), Wishes())


def test_published_files(shared_data: Path) -> None:
    for name, task, labels in (
        ("glue_sst2/dev.tsv", Classification, 2),
        ("glue_rte/dev.tsv", Classification, 2),
        ("fewclue_eprstmt/train_few_all.json", Classification, 2),
        ("chinese_reviews/waimai_10k.csv.gz", Classification, 2),
    ):
        found = infer(read(shared_data / name), Wishes())
        assert type(found) is task and len(found.labels) == labels, name
    assert infer(read(shared_data / "glue_rte/dev.tsv"), Wishes()).pair == "sentence2"


def test_every_task_has_a_name_of_its_own() -> None:
    assert len({t.name for t in TASKS}) == len(TASKS)
