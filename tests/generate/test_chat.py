"""Answers come from the template's prompt and end where the assistant's turn does."""

import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from genus.cli.generate import Options, main
from genus.export import huggingface
from genus.generate.chat import Talk, Talker
from genus.generate.sampling import Sampling
from genus.generate.session import conversation, session
from genus.generate.texts import Generator
from genus.modalities.chat import ready
from genus.run import Loaded


@pytest.fixture
def talking(small: Callable[..., Loaded]) -> Callable[..., Generator]:
    """`talking()`: a model over bytes and the two tokens of ChatML."""

    def make(**options: object) -> Generator:
        loaded = small("llama", vocab=259, context=256)
        tokenizer = ready(loaded.tokenizer)
        return Generator(replace(loaded, tokenizer=tokenizer), max_tokens=12, sampling=Sampling(0.0), **options)

    return make


def test_the_answer_follows_the_template(talking: Callable[..., Generator]) -> None:
    generator = talking()
    talker = Talker(generator)
    messages = [{"role": "user", "content": "Hello?"}]
    ((_, _, last),) = [r for r in talker.replies([messages]) if r[2] is not None]
    ids = talker.chat.prompt(messages)
    state = torch.tensor([ids])
    for _ in last.ids:
        logits = generator.loaded.model(state)[:, -1]
        state = torch.cat([state, logits[:, :259].argmax(-1, keepdim=True)], dim=1)
    assert tuple(state[0, len(ids) :].tolist()) == last.ids
    assert {generator.tokenizer.id("<|im_end|>"), generator.tokenizer.eos_id} <= talker._engine.ends
    assert last.prompt.endswith("<|im_start|>assistant\n")


def test_many_conversations_are_answered_together(talking: Callable[..., Generator]) -> None:
    talker = Talker(talking())
    talks = [[{"role": "user", "content": text}] for text in ("a", "bcd", "what is it?")]
    together = {place: whole.ids for place, _, whole in talker.replies(talks, number=2) if whole is not None}
    alone = [whole.ids for talk in talks for _, _, whole in talker.replies([talk]) if whole is not None]
    assert [together[p] for p in (0, 2, 4)] == alone and len(together) == 6


def test_a_talk_goes_on_and_forgets_what_has_no_place(talking: Callable[..., Generator], small: Callable[..., Loaded]) -> None:
    talk = Talk(Talker(talking()), system="Be brief.")
    first = "".join(talk.say("one"))
    assert [m["role"] for m in talk.messages] == ["user", "assistant"] and talk.messages[1]["content"] == first
    "".join(talk.say("two"))
    assert len(talk.messages) == 4 and talk.forgotten == 0

    loaded = small("gpt2", vocab=259, context=160)
    generator = Generator(replace(loaded, tokenizer=ready(loaded.tokenizer)), max_tokens=4)
    talk = Talk(Talker(generator), system="Be brief.")
    for text in ("first " * 5, "second " * 5, "third " * 5):
        list(talk.say(text))
    assert talk.forgotten > 0 and talk.messages[0]["role"] == "user" and talk.messages[-2]["content"].startswith("third")


def test_the_terminal(talking: Callable[..., Generator]) -> None:
    talk = Talk(Talker(talking()))
    out = io.StringIO()
    assert session(talk, io.StringIO("/system Answer in one word.\n\nhi\n/new\nhi again\n/quit\nnever\n"), out) == 2
    assert talk.system == "Answer in one word." and len(talk.messages) == 2
    assert out.getvalue().count("\n") >= 2 and talk.messages[-1]["content"] in out.getvalue()


def test_the_command_line(talking: Callable[..., Generator], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    loaded = talking().loaded
    huggingface.save(tmp_path / "m", loaded.model, loaded.spec, loaded.tokenizer, context=256)
    generation = json.loads((tmp_path / "m" / "generation_config.json").read_text())
    assert generation["eos_token_id"] == sorted({loaded.tokenizer.eos_id, loaded.tokenizer.id("<|im_end|>")})
    main(Options(tmp_path / "m", ("hi",), chat=True, system="Be kind.", temperature=0, max_tokens=5))
    shown = capsys.readouterr().out
    assert "hi" not in shown.split("\n")[0][:2] and shown.endswith("\n")
    asked = tmp_path / "q.jsonl"
    asked.write_text(json.dumps({"messages": [{"role": "user", "content": "hi"}], "id": 7}) + "\n")
    main(Options(tmp_path / "m", file=asked, output=tmp_path / "a.jsonl", chat=True, max_tokens=5))
    record = json.loads((tmp_path / "a.jsonl").read_text())
    assert record["id"] == 7 and record["tokens"] == 5 and record["finish"] == "length"
    with pytest.raises(ValueError, match="add --chat"):
        main(Options(tmp_path / "m", ("hi",), system="x"))


def test_a_model_without_a_template_says_what_to_do(small: Callable[..., Loaded]) -> None:
    with pytest.raises(ValueError, match="genus tune"):
        Talker(Generator(small("llama")))


def test_a_record_may_have_its_own_system() -> None:
    own = [{"role": "system", "content": "A"}, {"role": "user", "content": "x"}]
    assert conversation({"messages": own}, "B") == own
    assert conversation({"prompt": "x"}, "B")[0]["content"] == "B"
