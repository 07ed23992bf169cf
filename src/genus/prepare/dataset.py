"""Read a prepared data folder: memory-mapped token shards with document boundaries.

DATA/manifest.json                     sources, counts, tokenizer, shards with sizes and sha256, fingerprint
DATA/tokenizer/                        Hugging Face layout
DATA/{train,validation,test}/
    tokens-00000-SHA.npy               uint16 or uint32: documents one after the other, each ended by the end token
    ends-00000-SHA.npy                 int64: exclusive end of every document inside its shard
    bytes-00000-SHA.npy                int64: UTF-8 bytes of every document's text
    source-*.npy                       of pairs: the same of what the documents are translations of, document by document
DATA/rejected/STEP.jsonl               what a step dropped or changed: source, line, reason, excerpt

SHA stands for the first 16 hexadecimal digits of the file's sha256. The manifest has all of it, and a shard is compared with it
when a process first maps it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from functools import cache, cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from genus.modalities.text import Tokenizer

FORMAT = "genus-dataset"
VERSION = 2
"""1 had no hash in the names of the shards."""
MANIFEST = "manifest.json"
SPLITS = ("train", "validation", "test")
HELD_OUT = SPLITS[1:]
SOURCE = "source-"
"""What the names of the shards of sources begin with."""


class Dataset:
    """A prepared data folder, opened for reading. Opening checks that every file is there and has its size.

    Attributes:
        root: the folder.
        manifest: contents of manifest.json.
    """

    def __init__(self, root: Path, manifest: dict[str, Any]) -> None:
        self.root = root
        self.manifest = manifest
        self._splits = {name: Split(root / name, counts) for name, counts in manifest["splits"].items()}

    @classmethod
    def open(cls, path: str | Path, verify: bool = False) -> Dataset:
        """Open a folder that `genus prepare` made; with `verify`, also compare every file with its sha256.

        Raises:
            ValueError: not such a folder, or a file is missing, truncated or (with `verify`) changed; names the file.
        """
        root = Path(path)
        dataset = cls(root, read_manifest(root))
        for file, expected in dataset._files():
            _check_size(file, expected["size"])
        if verify:
            dataset.verify()
        return dataset

    def verify(self) -> None:
        """Read everything and compare it with the sha256 in the manifest.

        Raises:
            ValueError: a file was changed; names it.
        """
        known = [(file, expected["sha256"]) for file, expected in self._files()]
        known += [(self.root / "tokenizer" / file, expected) for file, expected in self.manifest["tokenizer"]["files"].items()]
        for file, expected in known:
            _check_content(file, expected)

    def _files(self) -> Iterator[tuple[Path, dict[str, Any]]]:
        """Every file of a shard, and what the manifest says of it."""
        for name, counts in self.manifest["splits"].items():
            for side in (counts, counts.get("source") or {"shards": []}):
                for shard in side["shards"]:
                    yield from ((self.root / name / file, expected) for file, expected in shard["files"].items())

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer the data was written with."""
        from genus.modalities.text import Tokenizer

        return Tokenizer.load(self.root / "tokenizer")

    @property
    def vocab_size(self) -> int:
        return self.manifest["tokenizer"]["vocab_size"]

    @property
    def fingerprint(self) -> str:
        """Hash over tokens, boundaries and tokenizer: equal for equal content, wherever it lies."""
        return self.manifest["fingerprint"]

    @property
    def pairs(self) -> bool:
        """Whether every document is the translation of a source (`Split.source`)."""
        return "pairs" in self.manifest

    @property
    def bytes_per_token(self) -> float:
        """UTF-8 bytes of text per stored token of the training split, end tokens included."""
        return self.manifest["bytes_per_token"]

    def split(self, name: str) -> Split:
        """The "train", "validation" or "test" split.

        Raises:
            ValueError: there is no such split, or it holds nothing.
        """
        if name not in self._splits or not self._splits[name].documents:
            present = ", ".join(split for split, content in self._splits.items() if content.documents)
            raise ValueError(f"{self.root} has no {name!r} split (it has: {present}). Prepare it again with --{name} 0.05")
        return self._splits[name]

    def __repr__(self) -> str:
        counts = ", ".join(f"{name}: {split.tokens:,} tokens" for name, split in self._splits.items())
        return f"Dataset({str(self.root)!r}, {counts})"


class Split:
    """One split: its tokens as one long stream over all shards, and where its documents end.

    Attributes:
        tokens, documents, bytes: how many; bytes are UTF-8 bytes of text.
        source: of pairs, the split whose document n is what document n here is a translation of; else None.
    """

    def __init__(self, folder: Path, counts: dict[str, Any], prefix: str = "") -> None:
        self.folder = folder
        self.source: Split | None = Split(folder, counts["source"], SOURCE) if "source" in counts else None
        self._prefix = prefix
        self.tokens: int = counts["tokens"]
        self.documents: int = counts["documents"]
        self.bytes: int = counts["bytes"]
        self._shards: list[dict[str, Any]] = counts["shards"]
        self._starts = np.cumsum([0, *(shard["tokens"] for shard in self._shards)], dtype=np.int64)
        # Each map holds a file descriptor, so only some stay open.
        self._tokens = lru_cache(maxsize=64)(self._map)

    def read(self, start: int, stop: int) -> np.ndarray:
        """Tokens start .. stop - 1 of the stream: a view of the mapped file when they lie in one shard, a copy when not.

        Raises:
            IndexError: outside 0 .. tokens.
        """
        if not 0 <= start <= stop <= self.tokens:
            raise IndexError(f"tokens {start} .. {stop} of a split of {self.tokens}")
        if not self._shards:
            return np.zeros(0, dtype=np.uint16)
        shard = min(int(np.searchsorted(self._starts, start, side="right")) - 1, len(self._shards) - 1)
        pieces = []
        while True:
            first, last = int(self._starts[shard]), int(self._starts[shard + 1])
            pieces.append(self._tokens(shard)[start - first : min(stop, last) - first])
            if stop <= last:
                break
            start, shard = last, shard + 1
        return pieces[0] if len(pieces) == 1 else np.concatenate(pieces)

    @cached_property
    def ends(self) -> np.ndarray:
        """Exclusive end of every document in the stream, int64."""
        parts = [self._array("ends", i) + self._starts[i] for i in range(len(self._shards))]
        return np.concatenate(parts) if parts else np.zeros(0, dtype=np.int64)

    @cached_property
    def document_bytes(self) -> np.ndarray:
        """UTF-8 bytes of every document's text, int64."""
        parts = [self._array("bytes", i) for i in range(len(self._shards))]
        return np.concatenate(parts) if parts else np.zeros(0, dtype=np.int64)

    def document(self, index: int) -> np.ndarray:
        """Tokens of one document, its end token included."""
        if not 0 <= index < self.documents:
            raise IndexError(f"document {index} of a split of {self.documents}")
        return self.read(int(self.ends[index - 1]) if index else 0, int(self.ends[index]))

    def _map(self, shard: int) -> np.ndarray:
        return np.load(self._file("tokens", shard), mmap_mode="r", allow_pickle=False)

    def _array(self, what: str, shard: int) -> np.ndarray:
        return np.load(self._file(what, shard), allow_pickle=False)

    def _file(self, what: str, shard: int) -> Path:
        """One of the three files of a shard, once its content has been compared with the manifest."""
        files = self._shards[shard]["files"]
        name, expected = next(each for each in files.items() if each[0].startswith(f"{self._prefix}{what}-"))
        return _verified(self.folder / name, expected["size"], expected["sha256"])


_REMEDY = "restore it, or run genus prepare again with --overwrite"


@cache
def _verified(path: Path, size: int, digest: str) -> Path:
    """The path, after the file was found to be what was prepared; once in a process.

    Raises:
        ValueError: it is not; names the file.
    """
    _check_size(path, size)
    _check_content(path, digest)
    return path


def shard_name(what: str, number: int, digest: str) -> str:
    """File name of a shard: what is "tokens", "ends" or "bytes", with SOURCE before it for the sources of pairs."""
    return f"{what}-{number:05d}-{digest[:16]}.npy"


def read_manifest(root: Path) -> dict[str, Any]:
    """The manifest of a prepared data folder.

    Raises:
        ValueError: there is none, or it is of another kind or a newer version.
    """
    if not root.exists():
        raise ValueError(f"no prepared data at {root}. Make it: genus prepare PATH... -o {root}")
    try:
        manifest = json.loads((root / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError) as error:
        raise ValueError(
            f"{root} is not a prepared data folder (no readable {MANIFEST}). Make one: genus prepare {root} -o DATA"
        ) from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise ValueError(f"{root / MANIFEST} is not a manifest of genus prepare")
    if manifest["version"] > VERSION:
        raise ValueError(f"{root} was prepared by a newer Genus (format {manifest['version']}, known: {VERSION}): upgrade genus")
    return manifest


def sha256(path: Path) -> str:
    """Hexadecimal sha256 of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check_content(path: Path, expected: str) -> None:
    if sha256(path) != expected:
        raise ValueError(f"{path} was changed after it was prepared: {_REMEDY}")


def _check_size(path: Path, expected: int) -> None:
    if not path.is_file():
        raise ValueError(f"{path} is missing: {_REMEDY}")
    size = path.stat().st_size
    if size != expected:
        raise ValueError(f"{path} has {size:,} bytes instead of {expected:,}: truncated or changed; {_REMEDY}")
