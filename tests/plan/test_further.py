"""A given model as a contender: measured, forecast, and trained as the plan says."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from genus.plan import further as module
from genus.plan.decide import Situation, decide
from genus.plan.frame import Frame
from genus.plan.further import Further, further
from genus.plan.options import PlanOptions
from genus.plan.trials.trial import Result, Trial, run_trial
from genus.prepare import prepare
from genus.prepare.dataset import Dataset
from genus.train.options import TrainOptions
from genus.train.start import start


class Inline:
    """A runner in this process."""

    name, workers = "inline", 1

    def __init__(self) -> None:
        self.ran: list[Trial] = []

    def run(self, trials: Iterable[Trial], folder: str | Path) -> Iterator[Result]:
        for trial in trials:
            self.ran.append(trial)
            yield run_trial(trial, folder)


def quiet(text: str) -> None:
    pass


@pytest.fixture(scope="module")
def base(corpus: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("base") / "run"
    shape = ("dim=32", "depth=1", "heads=2")
    return start("gpt2", corpus.root, path, TrainOptions(tokens=3000, batch=2, context=32, overrides=shape), quiet).path


def frame(data: Dataset) -> Frame:
    return Frame(data, PlanOptions(context=32, batch=2), 600.0, 32, 2, 1024, 1, 1e12, 1e11)


@pytest.fixture(scope="module")
def measured(base: Path, corpus: Dataset, tmp_path_factory: pytest.TempPathFactory) -> tuple[Further, Path]:
    folder = tmp_path_factory.mktemp("trials")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "POINTS", (4, 4))
        return further(base, frame(corpus), Inline(), folder, 600.0, quiet), folder


def test_it_is_measured_and_forecast(measured: tuple[Further, Path], corpus: Dataset) -> None:
    made, _ = measured
    assert made.alive and made.forecast is not None and made.lr_factor(made.rungs[0].total, 1.0) in (1.0, 0.3)
    (result,) = made.results.values()
    assert [p.tokens for p in result.points] == [1600, 3200, 6400, 12800]
    last = result.points[-1]
    said = made.surface().predict(1.0, last.tokens, unique=last.unique_tokens)
    assert float(said.loss) == pytest.approx(last.bpb, rel=0.05)
    assert float(made.large.seconds(1.0, last.tokens)) == pytest.approx(last.seconds)
    assert float(made.large.decode_seconds(1.0)) > 0
    assert len(made.rows()) == len(result.points)


def test_it_stands_for_election(measured: tuple[Further, Path], base: Path, corpus: Dataset) -> None:
    made, _ = measured
    found = decide([made.candidate(frame(corpus))], Situation(60.0, float(corpus.split("train").tokens)))
    assert found.recommendation.recipe == str(base) and found.recommendation.options["lr"]
    assert found.advice[0].startswith(f"train {base} further")


def test_the_run_of_the_plan_is_the_small_run_made_longer(
    measured: tuple[Further, Path], base: Path, corpus: Dataset, tmp_path: Path
) -> None:
    made, _ = measured
    (result,) = made.results.values()
    point = result.points[1]
    candidate = made.candidate(frame(corpus))
    options = TrainOptions.from_json(candidate.train(1.0, result.trial.horizons[1]))
    run = start(candidate.recipe, corpus.root, tmp_path / "run", options, quiet)
    assert run.config["finished"]["validation"] == {"loss": point.loss, "bpb": point.bpb}


def test_again_it_costs_nothing(
    measured: tuple[Further, Path], base: Path, corpus: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, folder = measured
    runner = Inline()
    monkeypatch.setattr(module, "POINTS", (4, 4))
    again = further(base, frame(corpus), runner, folder, 600.0, quiet)
    assert runner.ran == [] and again.results == made.results


def test_what_cannot_be_trained_here_is_refused_with_its_reason(base: Path, corpus: Dataset, tmp_path: Path) -> None:
    said: list[str] = []
    short = further(base, frame(corpus), Inline(), tmp_path / "trials", 0.01, said.append)
    assert short.status == "refused" and "longer budget" in short.reason and said
    missing = further(tmp_path / "nowhere", frame(corpus), Inline(), tmp_path, 60.0, quiet)
    assert missing.status == "refused" and "nowhere" in missing.reason
    (tmp_path / "text.txt").write_text("one two three\n" * 200, encoding="utf-8")
    prepare([tmp_path / "text.txt"], tmp_path / "words", tokenizer="chars", split_documents="line", keep_repeats=True)
    other = further(base, frame(Dataset.open(tmp_path / "words")), Inline(), tmp_path, 60.0, quiet)
    assert other.status == "refused" and "another tokenizer" in other.reason
