"""Make a tokenizer: train one, build one from the characters or words seen, or take an existing one.

The sample it learns from is part of the training split, bounded (`SAMPLE_BYTES`) and chosen by document hash, so the result does
not depend on the machine or the number of workers.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from tokenizers import Regex, decoders, models, pre_tokenizers, processors, trainers
from tokenizers import Tokenizer as Core

from genus.modalities.byte_bpe import QWEN2, byte_alphabet, byte_level
from genus.modalities.chat_template import CHATML, CHATML_TOKENS
from genus.modalities.text import END, KINDS, UNKNOWN, Tokenizer
from genus.prepare import unigram

SAMPLE_BYTES = 64 * 2**20
"""A tokenizer learns from at most about this much text."""

WORD = r"<unk>|\n|\p{Han}|[\p{L}\p{M}\p{N}_]+(?:['’@.,-][\p{L}\p{M}\p{N}_]+)*|[^\s]"
"""Words: letters and digits (with inner apostrophes, hyphens, points), single Chinese characters, other marks, line ends."""

SMALLEST, LARGEST = 512, 65_536

LEARNT = ("bpe", "unigram")
"""Kinds whose entries are learnt, so that `vocabulary_for` says how many there are."""

DESCRIPTIONS = {
    "bpe": "byte-level BPE, lossless",
    "unigram": "byte-level unigram, lossless",
    "bytes": "bytes, lossless",
    "chars": "characters, lossless (bytes stand in for unseen ones)",
    "words": "words, lossy: spaces are not kept, rare words become <unk>",
}


def vocabulary_for(size: int) -> int:
    """Entries of a BPE or unigram for `size` bytes of training text: the power of two nearest to 2·√bytes, from 512 to 65,536.

    The number of distinct words grows about as the square root of a text (Heaps' law), so an entry is met about √bytes / 8 times
    on average whatever the size: 1 MB gives 2,048 entries, 100 MB 16,384, 1 GB 65,536, the last size whose ids fit two bytes.
    """
    return min(LARGEST, max(SMALLEST, 2 ** round(math.log2(2 * math.sqrt(max(size, 1))))))


def is_built_in(name: str) -> bool:
    """Whether a `--tokenizer` value names a kind that is made here; anything else is a path."""
    return name in KINDS


def build(kind: str, texts: Iterable[str], size: int, vocab: int | None = None, min_count: int | None = None) -> Tokenizer:
    """Make a tokenizer from sample texts.

    Args:
        kind: one of KINDS.
        texts: sample of the training split.
        size: bytes of the whole training split, which sets the vocabulary of a BPE or unigram.
        vocab: entries wanted ("bpe" and "unigram": in all, the end token included; "chars" and "words": at most so many).
        min_count: "chars" and "words" leave out what the sample holds fewer times (1 for characters, 2 for words).

    Raises:
        ValueError: a vocabulary too small for the kind.
    """
    if vocab is not None and vocab < 1:
        raise ValueError(f"--vocab {vocab}: a vocabulary has at least one entry")
    if kind == "bytes":
        return bytes_tokenizer()
    if kind == "chars":
        return characters(_most_common(texts, vocab, min_count or 1))
    if kind == "words":
        return words(_most_common(map(_split_words, texts), vocab, min_count or 2))
    train = _train_bpe if kind == "bpe" else _train_unigram
    return train(texts, vocab or vocabulary_for(size))


def describe(tokenizer: Tokenizer, given: str) -> str:
    """A tokenizer in one line. `given`: the kind or path that was asked for."""
    what = DESCRIPTIONS.get(tokenizer.kind) if is_built_in(given) else None
    return f"{tokenizer.vocab_size:,} entries: {what}" if what else f"{tokenizer.vocab_size:,} entries, from {given}"


def furnish(tokenizer: Tokenizer, special: Sequence[str] = (), template: str | None = None) -> Tokenizer:
    """The same tokenizer with more special tokens, after its last id, and a chat template.

    Args:
        special: tokens, or roles such as "mask" (`Tokenizer.extended`).
        template: "chatml", whose two tokens are added too, or the path of a Jinja file.

    Raises:
        ValueError: there is no such file.
    """
    if template is None:
        return tokenizer.extended(special)
    chatml = template == "chatml"
    if not chatml and not Path(template).is_file():
        raise ValueError(f"no chat template at {template}: give chatml, or a Jinja file")
    text = CHATML if chatml else Path(template).read_text(encoding="utf-8")
    larger = tokenizer.extended([*special, *(CHATML_TOKENS if chatml else ())])
    return Tokenizer(larger.core, larger.config, text)


def bytes_tokenizer() -> Tokenizer:
    """The 256 bytes of UTF-8, id = byte, and the end token 256."""
    core = Core(models.BPE(vocab=byte_alphabet(), merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    core.decoder = decoders.ByteLevel()
    return _finish(core, "bytes")


def characters(found: Iterable[str]) -> Tokenizer:
    """One id per character; the bytes of UTF-8 (`<0x00>` …) stand in for characters not in the list, so nothing is lost."""
    vocabulary = {character: i for i, character in enumerate(sorted(set(found)))}
    first = len(vocabulary)
    vocabulary |= {f"<0x{byte:02X}>": first + byte for byte in range(256)}
    core = Core(models.BPE(vocab=vocabulary, merges=[], byte_fallback=True))
    core.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])
    return _finish(core, "chars")


def words(found: Iterable[str]) -> Tokenizer:
    """One id per word, `<unk>` for the rest. Lossy: spaces are not kept, unknown words become `<unk>`."""
    vocabulary = {UNKNOWN: 0}
    for word in found:
        vocabulary.setdefault(word, len(vocabulary))
    core = Core(models.WordLevel(vocab=vocabulary, unk_token=UNKNOWN))
    core.pre_tokenizer = pre_tokenizers.Split(Regex(WORD), behavior="removed", invert=True)
    return _finish(core, "words", unk_token=UNKNOWN)


def adopt(path: str | Path) -> Tokenizer:
    """Load an existing tokenizer and make it begin every prompt with its bos token, as the rows of training do.

    Raises:
        ValueError: no tokenizer there, or one without an end token.
    """
    tokenizer = Tokenizer.load(path)
    if tokenizer.add_bos:
        return tokenizer
    core = Core.from_str(tokenizer.core.to_str())
    start = tokenizer.token(tokenizer.bos_id) or END
    before = [core.post_processor] if core.post_processor is not None else []
    core.post_processor = processors.Sequence([*before, _begin_with(start, tokenizer.bos_id)])
    return Tokenizer(core, tokenizer.config | {"add_bos_token": True}, tokenizer.chat_template)


def _train_bpe(texts: Iterable[str], vocab: int) -> Tokenizer:
    _check_size(vocab, "BPE")
    core = Core(models.BPE())
    core.pre_tokenizer = byte_level(QWEN2)  # llama.cpp knows it: digits stay single, a line end ends a piece
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab,
        special_tokens=[END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    core.train_from_iterator(texts, trainer)
    return _finish(core, "bpe", genus_pattern="qwen2")


def _train_unigram(texts: Iterable[str], vocab: int) -> Tokenizer:
    _check_size(vocab, "unigram")
    core = Core(models.Unigram(unigram.train(texts, vocab - 1), unk_id=None, byte_fallback=False))
    core.pre_tokenizer = byte_level(QWEN2)
    core.decoder = decoders.ByteLevel()
    return _finish(core, "unigram", genus_pattern="qwen2")


def _check_size(vocab: int, what: str) -> None:
    if vocab < 257:
        raise ValueError(
            f"--vocab {vocab} is too small for byte-level {what}, which starts from 256 bytes and the end token; "
            "use --tokenizer bytes"
        )


def _finish(core: Core, kind: str, **config: str) -> Tokenizer:
    core.add_special_tokens([END])
    core.post_processor = _begin_with(END, core.token_to_id(END))
    return Tokenizer(
        core,
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": END,
            "eos_token": END,
            "add_bos_token": True,
            "clean_up_tokenization_spaces": False,
            "genus_kind": kind,
            **config,
        },
    )


def _begin_with(token: str, number: int | None) -> processors.PostProcessor:
    return processors.TemplateProcessing(
        single=f"{token}:0 $A:0", pair=f"{token}:0 $A:0 {token}:1 $B:1", special_tokens=[(token, number or 0)]
    )


def _split_words(text: str) -> list[str]:
    return [word for word, _ in _WORDS.pre_tokenize_str(text)]


_WORDS = pre_tokenizers.Split(Regex(WORD), behavior="removed", invert=True)


def _most_common(found: Iterable[Iterable[str]], vocab: int | None, min_count: int) -> list[str]:
    """Symbols by falling count, equals in order of their spelling."""
    counts: Counter[str] = Counter()
    for symbols in found:
        counts.update(symbols)
    ranked = sorted(counts, key=lambda symbol: (-counts[symbol], symbol))
    return [symbol for symbol in ranked if counts[symbol] >= min_count][:vocab]
