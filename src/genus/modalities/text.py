"""Text to token ids and back.

`Tokenizer` wraps a `tokenizers.Tokenizer`. Whatever its kind (byte-level BPE, bytes, characters, words, imported), it is saved as
the two standard files `tokenizer.json` and `tokenizer_config.json`, so `transformers` opens the folder unchanged.
"""

from __future__ import annotations

import codecs
import hashlib
import json
import re
from collections.abc import Sequence
from functools import cached_property
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import AddedToken
from tokenizers import Tokenizer as Core
from tokenizers.processors import TemplateProcessing

from genus.modalities.byte_bpe import Encoder, byte_alphabet, fast_encoder

END = "<|endoftext|>"
"""The token that our own tokenizers put before and after a document."""

UNKNOWN = "<unk>"
"""What a word tokenizer writes for a word outside its vocabulary."""

KINDS = ("bpe", "bytes", "chars", "words")

ROLES = {"cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]", "pad": "[PAD]"}
"""Special tokens by what they are for, as BERT writes them; a tokenizer may declare others (`mask_token` in its config)."""

_LONG = 2**17
_SAFE_CUT = re.compile(r"(?<=[^\W\d_]\n)(?=[^\W\d_])|(?<=[.,;:!?。，！？；：]\n)(?=[^\W\d_])")
"""Between a line end and a letter, after a letter or a common mark: where every known pre-tokenizer pattern ends a piece."""

_USUAL_ENDS = (END, "</s>", "<|end_of_text|>", "<eos>", "<|im_end|>", "[EOS]", "[SEP]")
_USUAL_STARTS = ("<s>", "<|begin_of_text|>", "<bos>", "[BOS]", "[CLS]")


class Tokenizer:
    """Token ids of a text, and the text of token ids.

    `encode` never turns the *letters* of a special token into the special token: a document that quotes `<|endoftext|>` stays a
    document. Ask for it with `special=True` (chat templates do).

    Attributes:
        kind: "bpe", "bytes", "chars", "words" or "imported". All but "words" are lossless: decode(encode(text)) == text.
        vocab_size: one more than the largest id.
        bos_id, eos_id: the ids before and after a document; often the same.
        add_bos: whether a prompt starts with `bos_id`; true for every tokenizer made by `genus prepare`.
    """

    def __init__(self, core: Core, config: dict[str, Any], chat_template: str | None = None) -> None:
        self._special = core
        self._plain = Core.from_str(core.to_str())
        self._plain.encode_special_tokens = True
        for each in (self._special, self._plain):
            each.no_padding()
            each.no_truncation()
        self.config = config
        self.chat_template = chat_template
        self.kind: str = config.get("genus_kind", "imported")
        eos = self._declared("eos_token", _USUAL_ENDS)
        if eos is None:
            raise ValueError(
                "the tokenizer declares no end-of-document token: "
                'add "eos_token" to its tokenizer_config.json, naming one of its tokens'
            )
        bos = self._declared("bos_token", _USUAL_STARTS)
        self.eos_id: int = eos
        self.bos_id: int = eos if bos is None else bos
        self.vocab_size: int = 1 + max(core.get_vocab(with_added_tokens=True).values())
        self.add_bos: bool = core.encode("").ids[:1] == [self.bos_id]

    # ---- files

    @classmethod
    def load(cls, path: str | Path) -> Tokenizer:
        """Read a tokenizer.json, or a folder that holds one (a Hugging Face model, a prepared data folder, a run).

        Raises:
            ValueError: the folder has no tokenizer.json, or the tokenizer has no end token.
        """
        file = _find(Path(path))
        try:
            core = Core.from_file(str(file))
        except Exception as error:  # the Rust side raises bare Exception
            raise ValueError(f"{file} is not a tokenizer.json that the tokenizers library can read: {error}") from error
        config: dict[str, Any] = {}
        for name in ("special_tokens_map.json", "tokenizer_config.json"):
            beside = file.with_name(name)
            if beside.is_file():
                config |= json.loads(beside.read_text(encoding="utf-8"))
        template = file.with_name("chat_template.jinja")
        return cls(core, config, template.read_text(encoding="utf-8") if template.is_file() else config.get("chat_template"))

    def save(self, folder: str | Path) -> None:
        """Write tokenizer.json and tokenizer_config.json (and the chat template, when there is one) into a folder."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        config = dict(self.config)
        config.setdefault("tokenizer_class", "PreTrainedTokenizerFast")
        config["bos_token"] = self._special.id_to_token(self.bos_id)
        config["eos_token"] = self._special.id_to_token(self.eos_id)
        (folder / "tokenizer.json").write_text(self._special.to_str(pretty=True), encoding="utf-8")
        text = json.dumps(config, ensure_ascii=False, indent=2, sort_keys=True)
        (folder / "tokenizer_config.json").write_text(text + "\n", encoding="utf-8")
        if self.chat_template:
            (folder / "chat_template.jinja").write_text(self.chat_template, encoding="utf-8")

    # ---- text to ids

    def encode(self, text: str, special: bool = False) -> list[int]:
        """Ids of a text, without bos or eos. `special=True` reads special tokens written in the text as themselves."""
        core = self._special if special else self._plain
        return core.encode(text, add_special_tokens=False).ids

    def encode_batch(self, texts: Sequence[str], special: bool = False) -> list[list[int]]:
        """`encode` of many texts, on all threads."""
        core = self._special if special else self._plain
        return [encoding.ids for encoding in core.encode_batch_fast(list(texts), add_special_tokens=False)]

    def encode_documents(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Documents as they are stored: all ids one after the other, each document followed by `eos_id`; and their lengths.

        The ids are those of `encode`, by faster ways: bytes and characters are looked up, byte-level BPE remembers words.
        """
        if self.kind in ("bytes", "chars"):
            arrays = [self._look_up(text) for text in texts]
            end = np.array([self.eos_id], dtype=np.int32)
            lengths = np.array([len(ids) + 1 for ids in arrays], dtype=np.int64)
            flat = [each for ids in arrays for each in (ids, end)]
            return np.concatenate(flat) if flat else np.zeros(0, dtype=np.int32), lengths
        known = self._fast_encoder if self._fast_encoder is not None and self._fast_encoder.pays else None
        parts = [self._pieces(text) for text in texts]
        pieces = [piece for each in parts for piece in each]
        encoded = [None if known is None else known.encode(piece) for piece in pieces]
        slow = [i for i, ids in enumerate(encoded) if ids is None]
        for i, ids in zip(slow, self.encode_batch([pieces[i] for i in slow]), strict=True):
            encoded[i] = ids
        stored: list[list[int]] = []
        lengths = np.zeros(len(texts), dtype=np.int64)
        rest = iter(encoded)
        for text, each in enumerate(parts):
            own = [ids for ids in islice(rest, len(each)) if ids is not None]
            stored += [*own, [self.eos_id]]
            lengths[text] = sum(map(len, own)) + 1
        return np.fromiter(chain.from_iterable(stored), dtype=np.int32, count=int(lengths.sum())), lengths

    @cached_property
    def _fast_encoder(self) -> Encoder | None:
        return fast_encoder(self._special)

    def _look_up(self, text: str) -> np.ndarray:
        if self.kind == "bytes":
            return np.frombuffer(text.encode(), dtype=np.uint8).astype(np.int32)
        ids = self._id_of_character[np.frombuffer(text.encode("utf-32-le"), dtype=np.uint32)]
        return ids if ids.size == 0 or ids.min() >= 0 else np.asarray(self.encode(text), dtype=np.int32)

    def _pieces(self, text: str) -> list[str]:
        """Cut a long text where no token can reach across: memory and threads like short texts better."""
        if len(text) <= _LONG or not self._may_cut:
            return [text]
        pieces, start = [], 0
        while len(text) - start > _LONG and (found := _SAFE_CUT.search(text, start + _LONG // 2)):
            pieces.append(text[start : found.start()])
            start = found.start()
        return [*pieces, text[start:]]

    @cached_property
    def _may_cut(self) -> bool:
        # Byte-level pre-tokenizers (GPT-2's pattern and its descendants) end a piece at a line end that a letter follows;
        # a normalizer, or a prefix added to every text, could see the cut.
        state = json.loads(self._plain.to_str())
        if self.kind == "words":
            return True
        steps = state["pre_tokenizer"] or {}
        steps = steps.get("pretokenizers", [steps])
        byte_level = [step for step in steps if step.get("type") == "ByteLevel"]
        split = any(step.get("use_regex", True) for step in byte_level) or any(step.get("type") == "Split" for step in steps)
        return (
            state["normalizer"] is None
            and bool(byte_level)
            and split
            and not any(step.get("add_prefix_space") for step in byte_level)
        )

    @cached_property
    def _id_of_character(self) -> np.ndarray:
        table = np.full(0x110000, -1, dtype=np.int32)
        for token, number in self._special.get_vocab(with_added_tokens=False).items():
            if len(token) == 1:
                table[ord(token)] = number
        return table

    # ---- ids to text

    def decode(self, ids: Sequence[int], special: bool = False) -> str:
        """Text of ids. Special tokens are left out unless `special`; bytes that are not UTF-8 become U+FFFD."""
        return self._special.decode([int(i) for i in ids], skip_special_tokens=not special)

    def stream(self) -> Stream:
        """A decoder for generation: push ids, get text as soon as its characters are complete."""
        return Stream(self)

    def token(self, number: int) -> str | None:
        """How the vocabulary spells an id (byte-level alphabets and all); None outside the vocabulary."""
        return self._special.id_to_token(int(number))

    def id(self, token: str) -> int | None:
        """The id of a vocabulary entry, or None."""
        return self._special.token_to_id(token)

    @cached_property
    def special_ids(self) -> frozenset[int]:
        """Ids that stand for something other than text."""
        return frozenset(i for i, added in self._special.get_added_tokens_decoder().items() if added.special)

    # ---- special tokens

    def role(self, role: str) -> int | None:
        """The id of the special token for a role: "cls", "sep", "mask", "pad", or "sentinel_0", "sentinel_1" ... (T5).

        What is no name is the token itself: `<|im_start|>`.
        """
        if role.startswith("sentinel_") or not role.isidentifier():
            return self.id(_spelling(role))
        return self._declared(f"{role}_token", ())

    def extended(self, roles: Sequence[str]) -> Tokenizer:
        """The same tokenizer with a special token for each of these roles; those it lacks come after its last id.

        One that has "cls" and "sep" frames a text as BERT does: `[CLS] text [SEP]`, `[CLS] text [SEP] other [SEP]`.
        """
        missing = [role for role in roles if self.role(role) is None]
        if not missing:
            return self
        core = Core.from_str(self._special.to_str())
        core.add_special_tokens([AddedToken(_spelling(role), normalized=False, special=True) for role in missing])
        config = self.config | {f"{role}_token": _spelling(role) for role in missing if role in ROLES}
        larger = Tokenizer(core, config, self.chat_template)
        cls, sep = larger.role("cls"), larger.role("sep")
        if cls is not None and sep is not None and {"cls", "sep"} & set(missing):
            names = [str(core.id_to_token(i)) for i in (cls, sep)]
            core.post_processor = TemplateProcessing(
                single=f"{names[0]} $A {names[1]}",
                pair=f"{names[0]} $A {names[1]} $B:1 {names[1]}:1",
                special_tokens=[(names[0], cls), (names[1], sep)],
            )
            larger = Tokenizer(core, config, self.chat_template)
        return larger

    def extends(self, other: Tokenizer) -> bool:
        """Whether it gives every text the ids that `other` gives it, with special tokens of its own after them at most."""
        added = {i: token.content for i, token in self._special.get_added_tokens_decoder().items()}
        old = {i: token.content for i, token in other._special.get_added_tokens_decoder().items()}
        return self._rules == other._rules and old.items() <= added.items()

    def frame(self, text: str, other: str | None = None, limit: int | None = None) -> tuple[list[int], list[int]]:
        """Ids and segment types of a text, or of a pair, with what the tokenizer puts around them.

        Args:
            limit: most ids; the longer of the two texts loses its end first.
        """
        core = self._plain
        parts = [core.encode(each, add_special_tokens=False) for each in (text, other) if each is not None]
        if limit is not None:
            room = max(len(parts), limit - core.num_special_tokens_to_add(len(parts) > 1))
            lengths = _shares([len(part.ids) for part in parts], room)
            for part, length in zip(parts, lengths, strict=True):
                part.truncate(length)
        framed = core.post_process(parts[0], parts[1] if len(parts) > 1 else None)
        return framed.ids, framed.type_ids

    @property
    def _rules(self) -> dict[str, Any]:
        state = json.loads(self._special.to_str())
        return {name: state[name] for name in ("normalizer", "pre_tokenizer", "model")}

    @cached_property
    def fingerprint(self) -> str:
        """Hash of what turns text into ids: equal for tokenizers that give equal ids, whatever they add around a text."""
        rules = self._rules | {"added_tokens": json.loads(self._special.to_str())["added_tokens"]}
        return hashlib.sha256(json.dumps(rules, sort_keys=True).encode()).hexdigest()

    @cached_property
    def byte_level(self) -> bool:
        """Whether the vocabulary is spelled in GPT-2's alphabet of bytes."""
        return _is_byte_level(self._special.decoder)

    @property
    def core(self) -> Core:
        """The wrapped `tokenizers.Tokenizer`; treat it as read-only."""
        return self._special

    @property
    def plain(self) -> Core:
        """As `core`, but the letters of a special token stay letters."""
        return self._plain

    # ---- small matters

    def _declared(self, name: str, usual: Sequence[str]) -> int | None:
        value = self.config.get(name)
        if isinstance(value, dict):
            value = value.get("content")
        if value:
            number = self._special.token_to_id(value)
            if number is None:
                raise ValueError(f"tokenizer_config.json declares {name} {value!r}, which is not in tokenizer.json")
            return number
        found = (self._special.token_to_id(token) for token in usual)
        return next((number for number in found if number is not None), None)

    def __repr__(self) -> str:
        return f"Tokenizer(kind={self.kind!r}, vocab_size={self.vocab_size}, bos_id={self.bos_id}, eos_id={self.eos_id})"


class Stream:
    """Incremental decoding: the pieces returned by `push` and `finish`, joined, are `Tokenizer.decode` of the ids pushed.

    A character whose bytes are spread over several tokens (most Chinese characters under a small BPE) is held back until its last
    byte has come.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        decoder = tokenizer.core.decoder
        self._bytes = codecs.getincrementaldecoder("utf-8")("replace") if _is_byte_level(decoder) else None
        self._ids: list[int] = []
        self._done = 0  # ids whose text was given out
        self._context = 0  # first id that the text of later ids may depend on

    def push(self, number: int) -> str:
        """Take one id; return the text that is now certain (often one token's, sometimes none)."""
        number = int(number)
        if number in self._tokenizer.special_ids:
            return ""
        if self._bytes is not None:
            return self._bytes.decode(_bytes_of(self._tokenizer.token(number) or ""))
        self._ids.append(number)
        return self._advance(final=False)

    def finish(self) -> str:
        """The text still held back; an unfinished character comes out as U+FFFD."""
        if self._bytes is not None:
            return self._bytes.decode(b"", final=True)
        return self._advance(final=True)

    def _advance(self, final: bool) -> str:
        # Decoders may treat the first token of a text specially (a leading space), so new text is read off
        # as the difference between decoding a few ids with and without the new ones.
        before = self._tokenizer.decode(self._ids[self._context : self._done])
        after = self._tokenizer.decode(self._ids[self._context :])
        if not final and after.endswith("\ufffd"):
            return ""
        self._context, self._done = self._done, len(self._ids)
        return after[len(before) :]


def _spelling(role: str) -> str:
    """The usual special token for a role."""
    return f"<extra_id_{role.removeprefix('sentinel_')}>" if role.startswith("sentinel_") else ROLES.get(role, role)


def _shares(lengths: list[int], room: int) -> list[int]:
    """Lengths that fit into `room` together, when the longer one gives way first."""
    if sum(lengths) <= room:
        return lengths
    if len(lengths) == 1:
        return [room]
    shorter = min(*lengths, room // 2)
    return [shorter, room - shorter] if lengths[0] <= lengths[1] else [room - shorter, shorter]


def _find(path: Path) -> Path:
    if path.is_file():
        return path
    for folder in (path, path / "tokenizer", path / "model"):
        if (folder / "tokenizer.json").is_file():
            return folder / "tokenizer.json"
    if not path.exists():
        raise ValueError(f"no tokenizer at {path}: give bpe, bytes, chars, words, a tokenizer.json, or a folder that holds one")
    raise ValueError(
        f"{path} holds no tokenizer.json. An older Hugging Face tokenizer can be converted: "
        "transformers.AutoTokenizer.from_pretrained(folder).save_pretrained(folder)"
    )


def _is_byte_level(decoder: Any) -> bool:
    return decoder is not None and json.loads(decoder.__getstate__())["type"] == "ByteLevel"


_BYTE_OF = byte_alphabet()


def _bytes_of(token: str) -> bytes:
    try:
        return bytes(_BYTE_OF[character] for character in token)
    except KeyError:  # an added token, spelt as itself
        return token.encode()
