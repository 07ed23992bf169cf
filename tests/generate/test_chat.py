"""Answers come from the template's prompt and end where the assistant's turn does."""

import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from genus.cli import chat
from genus.cli.decoding import Choosing, Form
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
    main(Options(tmp_path / "m", ("hi",), chat=True, system="Be kind.", choosing=Choosing(temperature=0), max_tokens=5))
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


def test_another_answer_takes_the_place_of_the_last(talking: Callable[..., Generator]) -> None:
    generator = talking()
    generator.sampling = Sampling(1.5)
    talk = Talk(Talker(generator))
    first = "".join(talk.say("hi"))
    second = "".join(talk.again())
    assert first != second and talk.messages == [{"role": "user", "content": "hi"}, {"role": "assistant", "content": second}]
    talk.forget()
    assert "".join(talk.say("hi")) == first
    with pytest.raises(ValueError, match="nothing was said"):
        list(Talk(Talker(generator)).again())


def test_a_conversation_is_not_read_twice(talking: Callable[..., Generator]) -> None:
    talk = Talk(Talker(talking()))
    list(talk.say("one " * 60))
    scheduler = talk.talker._scheduler
    read = scheduler.stats.prompt_tokens
    list(talk.say("two"))
    assert scheduler.stats.prompt_tokens - read < read / 2 and scheduler.stats.prefix_hits > 0
    fresh = Talker(talking())
    assert ["".join(p for _, p, _ in fresh.replies([talk.messages[:3]]))] == [talk.messages[3]["content"]]


def test_an_answer_that_is_not_read_to_its_end_is_given_up(talking: Callable[..., Generator]) -> None:
    talk = Talk(Talker(talking()))
    answer = talk.say("hi")
    piece = next(answer)
    answer.close()
    assert talk.messages[-1]["content"] == piece and talk.finish is None
    list(talk.say("again"))
    assert talk.talker._scheduler.stats.cancelled == 1 and talk.finish == "length"


def test_the_chat_command(
    talking: Callable[..., Generator], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = talking().loaded
    huggingface.save(tmp_path / "m", loaded.model, loaded.spec, loaded.tokenizer, context=256)
    monkeypatch.setattr("sys.stdin", io.StringIO("/again\nIs it?\n/again\n/help\n/new\nIs it?\n"))
    options = chat.Options(tmp_path / "m", choosing=Choosing(seed=5), form=Form(choice=("yes", "no")), max_tokens=9)
    assert chat.main(options) == 0
    shown = capsys.readouterr()
    answers = shown.out.splitlines()
    assert len(answers) == 3 and set(answers) <= {"yes", "no"} and answers[0] == answers[2]
    assert "nothing was said yet" in shown.err and "/system TEXT" in shown.err
    monkeypatch.setattr("sys.stdin", io.StringIO("hello\n"))
    chat.main(chat.Options(tmp_path / "m", choosing=Choosing(temperature=0), max_tokens=2))
    assert "--max-tokens" in capsys.readouterr().err


def test_without_a_prompt_chat_is_pointed_to(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="genus chat model"):
        main(Options(Path("model"), chat=True))


def test_a_question_that_is_too_long_ends_no_conversation(
    small: Callable[..., Loaded], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = small("gpt2", vocab=259, context=64)
    talk = Talk(Talker(Generator(replace(loaded, tokenizer=ready(loaded.tokenizer)), max_tokens=3)))
    lines = io.StringIO("x" * 80 + "\nhi\n")
    with pytest.raises(ValueError, match="shorten the prompt"):  # of a file
        session(talk, lines, io.StringIO())
    talk.forget()
    lines.seek(0)
    monkeypatch.setattr(lines, "isatty", lambda: True)
    assert session(talk, lines, io.StringIO()) == 1
    assert "error: the prompt" in capsys.readouterr().err and [m["content"] for m in talk.messages][:1] == ["hi"]
