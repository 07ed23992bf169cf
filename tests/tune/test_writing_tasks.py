"""Conversations and sequence to sequence, from rows to a fitted model that answers."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import torch

import genus
from genus.modalities.chat import Chat
from genus.prepare.records import Records
from genus.prepare.tokenizer import bytes_tokenizer
from genus.tune.base import Base
from genus.tune.examples import Examples
from genus.tune.fitting import fit, predict
from genus.tune.methods import Full
from genus.tune.options import TuneOptions
from genus.tune.task import Wishes
from genus.tune.tasks import infer
from genus.tune.tasks.conversation import Conversation
from genus.tune.tasks.sequence import BETWEEN, SequenceToSequence

COLOURS = ("red", "green", "blue", "white")


def talks(count: int, seed: int = 0) -> list[dict[str, Any]]:
    """The assistant says the colour that the user named first, in capitals."""
    dice = random.Random(seed)
    rows = []
    for _ in range(count):
        messages = []
        for _ in range(dice.randint(1, 2)):
            a, b = dice.sample(COLOURS, 2)
            messages += [{"role": "user", "content": f"{a} {b}"}, {"role": "assistant", "content": a.upper()}]
        rows.append({"messages": messages})
    return rows


def records(rows: list[dict[str, Any]]) -> Records:
    return Records(list(rows[0]), rows, [f"rows.jsonl:{i + 1}" for i in range(len(rows))], [], "rows.jsonl")


def base(name: str = "llama", **sizes: Any) -> Base:
    recipe = genus.recipe(name, **{"dim": 48, "depth": 2, "heads": 4, "vocab": 257, "context": 256, **sizes}).replace(name=name)
    torch.manual_seed(0)
    return Base("run", recipe, bytes_tokenizer(), Path("base"), dict(recipe.model.build(0).state_dict()))


def test_columns_tell_the_task() -> None:
    assert infer(records(talks(9)), Wishes()) == Conversation(("messages",), 5)
    alpaca = {"instruction": "a", "input": "", "output": "b"}
    assert infer(records([alpaca]), Wishes()) == Conversation(("instruction", "input", "output"), 1)
    assert infer(records([{"source": "a", "target": "b"}]), Wishes()) == SequenceToSequence("source", "target", 1)
    odd = records([{"de": "a", "en": "b", "text": "c"}])
    assert infer(odd, Wishes("sequence", "de", None, "en")) == SequenceToSequence("de", "en", 1)
    assert infer(odd, Wishes("conversation", "de", None, "en")) == Conversation(("de", "en"), 1)
    with pytest.raises(ValueError, match="target texts"):
        infer(odd, Wishes("sequence", "de"))
    with pytest.raises(ValueError, match="messages or conversations"):
        infer(odd, Wishes("conversation"))


def test_rows_that_are_no_conversations_are_named() -> None:
    task = Conversation()
    assert task.problem({"messages": [{"role": "user", "content": "x"}]}) == "the assistant says nothing"
    assert task.problem({"messages": [{"role": "user", "content": "x"}]}, labelled=False) is None
    row = talks(1)[0]
    assert task.problem(row) is None and task.target(row) == row["messages"][-1]["content"]
    assert row["messages"][-1]["content"] not in task.texts(row)[0]


def test_examples_mark_the_assistant_and_lose_their_end() -> None:
    ready = Conversation().settle(base())
    assert ready.recipe.model.embed.vocab == 259 == ready.weights["embed.tokens.weight"].shape[0]
    rows = talks(20)
    chat = Chat(ready.tokenizer)
    for limit in (256, 40):
        made = Conversation().examples(rows, ready.tokenizer, limit)
        for row, example in zip(rows, made, strict=True):
            (lesson,) = chat.lessons(row["messages"])
            assert example.ids == lesson.ids[:limit] and example.cut == (len(lesson.ids) > limit)
            assert [i != -100 for i in example.label] == lesson.said[:limit]
            assert all(label in (-100, token) for label, token in zip(example.label, example.ids))
    assert any(e.cut for e in made)


def test_rows_that_the_template_refuses_are_found() -> None:
    from genus.modalities.text import Tokenizer

    plain = bytes_tokenizer()
    strict = "{% if messages[0].role == 'system' %}{{ raise_exception('no system here') }}{% endif %}"
    strict += "{% for m in messages %}{{ m.content + eos_token }}{% endfor %}"
    tokenizer = Tokenizer(plain.core, plain.config, strict)
    rows = talks(3)
    rows[1]["messages"].insert(0, {"role": "system", "content": "x"})
    examples = Examples.encode(Conversation(), rows, tokenizer, 256)
    assert examples.without == [1] and len(examples) == 2
    assert "no system here" in (Conversation().refusal(rows[1], tokenizer) or "") and not Conversation().refusal(
        rows[0], tokenizer
    )


def test_conversations_are_learnt_and_answered() -> None:
    ready, task = Conversation().settle(base()), Conversation()
    rows, held = talks(30), talks(10, seed=9)
    train, valid = (Examples.encode(task, part, ready.tokenizer, 256) for part in (rows, held))
    options = TuneOptions(epochs=35, batch=1, lr=4e-3, dropout=0.0)
    fitted = fit(ready, task, train, valid, Full(), options)
    before, after = fitted.history[0], fitted.scores
    assert before["step"] == 0 and before["perplexity"] > 20 and after["perplexity"] < 2 and after["token_accuracy"] > 0.8
    predictions, _ = predict(fitted.model, task, ready, valid)
    scores = task.score(predictions, held)
    assert scores["exact_match"] >= 0.5 and scores["rouge_l"] >= scores["exact_match"]
    assert task.render(predictions[0])["prediction"] in {c.upper() for c in COLOURS} | {predictions[0].text}


@pytest.mark.parametrize("name", ["llama", "transformer"])
def test_a_target_is_written_from_its_source(name: str) -> None:
    words = [a + b for a in "abcd" for b in "abcd"]
    rows = [{"source": w, "target": w.upper()} for w in words]
    task = SequenceToSequence()
    ready = task.settle(base(name))
    assert (ready.tokenizer.id(BETWEEN) is None) == (name == "transformer")
    train, valid = (Examples.encode(task, part, ready.tokenizer, 64) for part in (rows, rows[::2]))
    options = TuneOptions(epochs=80, batch=1 if name == "llama" else 16, lr=6e-3, dropout=0.0)
    fitted = fit(ready, task, train, valid, Full(), options)
    predictions, held = predict(fitted.model, task, ready, valid)
    scores = task.score(predictions, held)
    assert fitted.history[0]["perplexity"] > 20 and scores["perplexity"] < 2 and scores["exact_match"] > 0.6
    assert set(task.render(predictions[0])) == {"prediction"}


def test_models_that_cannot_write_are_refused() -> None:
    for task in (Conversation(), SequenceToSequence()):
        with pytest.raises(ValueError, match="choose"):
            task.settle(base("bert"))
    with pytest.raises(ValueError, match="encoder-decoder the columns source and target"):
        Conversation().settle(base("t5"))


def test_long_pairs_are_cut_on_both_sides() -> None:
    task = SequenceToSequence()
    tokenizer = task.settle(base()).tokenizer
    long, short = task.examples([{"source": "s" * 99, "target": "t" * 99}, {"source": "a", "target": "b"}], tokenizer, 43)
    assert long.cut and len(long.ids) == 43 and not short.cut
    assert [bytes([i]) for i in long.ids[1:21]] == [b"s"] * 20 and sum(i != -100 for i in long.label) == 21
    whole = task.examples([{"source": "s" * 99, "target": "t"}], tokenizer, 43)[0]
    assert sum(i != -100 for i in whole.label) == 2 and len(whole.ids) == 43


def test_a_run_answers_a_file(tmp_path: Path) -> None:
    """From the command's function to predictions, through the checkpoint."""
    import json

    from genus.export import huggingface
    from genus.run import load
    from genus.tune.predict import predict as label_file

    start = base(dim=32)
    huggingface.save(tmp_path / "base", start.model(None, 0), start.recipe, start.tokenizer, context=256)
    rows = [{"id": i, "prompt": f"say {w}", "response": w.upper()} for i, w in enumerate(COLOURS * 6)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    told: list[str] = []
    run = genus.tune(
        tmp_path / "base", tmp_path / "rows.jsonl", tmp_path / "run", say=told.append, seeds=1, epochs=1, refit=False, context=128
    )
    results = json.loads((run.path / "results.json").read_text())
    assert [row["name"] for row in results["rows"]][1].endswith("before tuning")
    assert "perplexity" in results["rows"][1]["scores"][0] and "exact_match" in results["rows"][0]["scores"][0]
    loaded = load(run.path)
    assert loaded.tokenizer is not None and loaded.tokenizer.chat_template and loaded.spec.embed.vocab == 259
    (tmp_path / "ask.jsonl").write_text('{"id": 1, "prompt": "say red"}\n{"id": 2, "prompt": ""}\n')
    label_file(run.path, tmp_path / "ask.jsonl", tmp_path / "out.jsonl", say=told.append)
    good, bad = (json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines())
    assert isinstance(good["prediction"], str) and good["error"] is None and bad["error"] == "empty prompt"


def test_texts_are_searched_for(tmp_path: Path) -> None:
    """A wider beam finds texts that are at least as probable, and one of width 1 those of no beam."""
    from genus.generate.beam import Beam

    words = [a + b for a in "abcd" for b in "abcd"]
    rows = [{"source": w, "target": w.upper()} for w in words]
    task = SequenceToSequence()
    ready = task.settle(base())
    train = Examples.encode(task, rows, ready.tokenizer, 64)
    fitted = fit(ready, task, train, (), Full(), TuneOptions(epochs=8, batch=1, lr=6e-3, dropout=0.0, dtype="fp32"))
    texts = {
        width: [p.text for p in predict(fitted.model, task, ready, train, beam=width and Beam(width, 0.0))[0]]
        for width in (None, 1, 4)
    }
    assert texts[1] == texts[None]

    def probability(written: list[str]) -> list[float]:
        said = Examples.encode(task, [{"source": w, "target": t} for w, t in zip(words, written)], ready.tokenizer, 64)
        return [-p.nats for p in predict(fitted.model, task, ready, said, write=False)[0]]

    greedy, wide = probability(texts[None]), probability(texts[4])
    assert all(b >= a - 1e-3 for a, b in zip(greedy, wide)) and texts[4] != texts[None]
