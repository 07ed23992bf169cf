"""Text to token ids and back.

`Tokenizer` wraps a `tokenizers.Tokenizer`. Whatever its kind (byte-level BPE or unigram, bytes, characters, words, imported), it
is saved as the two standard files `tokenizer.json` and `tokenizer_config.json`, so `transformers` opens the folder unchanged.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import AddedToken
from tokenizers import Tokenizer as Core
from tokenizers.processors import TemplateProcessing

from genus.modalities.documents import DocumentEncoder
from genus.modalities.stream import Stream, is_byte_level

END = "<|endoftext|>"
"""The token that our own tokenizers put before and after a document."""

UNKNOWN = "<unk>"
"""What a word tokenizer writes for a word outside its vocabulary."""

KINDS = ("bpe", "unigram", "bytes", "chars", "words")

ROLES = {"cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]", "pad": "[PAD]"}
"""Special tokens by what they are for, as BERT writes them; a tokenizer may declare others (`mask_token` in its config)."""


_USUAL_ENDS = (END, "</s>", "<|end_of_text|>", "<eos>", "<|im_end|>", "[EOS]", "[SEP]")
_USUAL_STARTS = ("<s>", "<|begin_of_text|>", "<bos>", "[BOS]", "[CLS]")


class Tokenizer:
    """Token ids of a text, and the text of token ids.

    `encode` never turns the *letters* of a special token into the special token: a document that quotes `<|endoftext|>` stays a
    document. Ask for it with `special=True` (chat templates do).

    Attributes:
        kind: "bpe", "unigram", "bytes", "chars", "words" or "imported". Our own are lossless, decode(encode(text)) == text, but
            for "words".
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
        file = find_file(path)
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
        """Ids of a text, without bos or eos. `special=True` reads special tokens written in the text as themselves.

        Raises:
            ValueError: the text holds half of a surrogate pair, which is no Unicode text.
        """
        core = self._special if special else self._plain
        try:
            return core.encode(text, add_special_tokens=False).ids
        except TypeError as error:
            raise _not_unicode() from error

    def encode_batch(self, texts: Sequence[str], special: bool = False) -> list[list[int]]:
        """`encode` of many texts, on all threads."""
        core = self._special if special else self._plain
        try:
            return [encoding.ids for encoding in core.encode_batch_fast(list(texts), add_special_tokens=False)]
        except TypeError as error:
            raise _not_unicode() from error

    def encode_documents(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Documents as they are stored: all ids one after the other, each document followed by `eos_id`; and their lengths.

        The ids are those of `encode`, by faster ways.
        """
        try:
            return self._documents.encode(texts)
        except UnicodeEncodeError as error:
            raise _not_unicode() from error

    @cached_property
    def _documents(self) -> DocumentEncoder:
        return DocumentEncoder(self)

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
        return is_byte_level(self._special.decoder)

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


def _not_unicode() -> ValueError:
    return ValueError(
        "a text holds half of a surrogate pair, which is no Unicode text; repair it first: "
        "text.encode('utf-16', 'surrogatepass').decode('utf-16', 'replace')"
    )


def find_file(path: str | Path) -> Path:
    """The tokenizer.json that a path means: itself, or the one in a folder (a model, a prepared data folder, a run).

    Raises:
        ValueError: there is none.
    """
    path = Path(path)
    if path.is_file():
        return path
    for folder in (path, path / "tokenizer", path / "model"):
        if (folder / "tokenizer.json").is_file():
            return folder / "tokenizer.json"
    if not path.exists():
        kinds = ", ".join(KINDS)
        raise ValueError(f"no tokenizer at {path}: give {kinds}, a tokenizer.json, or a folder that holds one")
    raise ValueError(
        f"{path} holds no tokenizer.json. An older Hugging Face tokenizer can be converted: "
        "transformers.AutoTokenizer.from_pretrained(folder).save_pretrained(folder)"
    )
