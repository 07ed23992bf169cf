"""Opening and reading prepared folders: slices over shards, damage, errors."""

import hashlib
import json
import re
from pathlib import Path

import numpy as np
import pytest

from genus.prepare import Dataset, pack, prepare


@pytest.fixture
def sharded(tmp_path, monkeypatch: pytest.MonkeyPatch) -> tuple[Dataset, list[bytes]]:
    """Thirty documents in small shards, and their texts."""
    monkeypatch.setattr(pack, "SHARD_TOKENS", 100)
    texts = [bytes([97 + i % 26]) * (i * 7 % 40 + 1) + b"%d" % i for i in range(30)]
    texts[17] = b"long " * 50
    (tmp_path / "a.txt").write_bytes(b"\n".join(texts))
    return prepare(tmp_path / "a.txt", tmp_path / "out", tokenizer="bytes", split_documents="line", validation=0, test=0), texts


def shard_file(data: Dataset, name: str) -> Path:
    """The training shard's file whose name begins so."""
    (file,) = (data.root / "train").glob(f"{name}-*.npy")
    return file


def test_reads_across_shards(sharded: tuple[Dataset, list[bytes]]) -> None:
    data, texts = sharded
    split = data.split("train")
    stream = [i for text in texts for i in [*text, 256]]
    shards = data.manifest["splits"]["train"]["shards"]
    assert len(shards) > 5 and all(shard["tokens"] <= 100 or shard["documents"] == 1 for shard in shards)
    assert split.tokens == len(stream) and split.documents == 30 and split.bytes == sum(map(len, texts))
    assert split.read(0, split.tokens).tolist() == stream
    dice = np.random.default_rng(0)
    for start, stop in np.sort(dice.integers(0, split.tokens + 1, size=(200, 2))):
        assert split.read(int(start), int(stop)).tolist() == stream[start:stop]
    assert split.read(5, 5).tolist() == [] and split.read(split.tokens, split.tokens).tolist() == []
    assert [bytes(split.document(i)[:-1].astype(np.uint8)) for i in range(30)] == texts
    assert split.ends.dtype == np.int64 and split.ends.tolist() == np.cumsum([len(text) + 1 for text in texts]).tolist()
    assert split.document_bytes.tolist() == [len(text) for text in texts]
    for start, stop in ((-1, 3), (3, 2), (0, split.tokens + 1)):
        with pytest.raises(IndexError):
            split.read(start, stop)
    with pytest.raises(IndexError):
        split.document(30)


def test_files_are_plain_numpy(sharded: tuple[Dataset, list[bytes]]) -> None:
    data, _ = sharded
    tokens = np.load(shard_file(data, "tokens-00001"), allow_pickle=False)
    ends = np.load(shard_file(data, "ends-00001"), allow_pickle=False)
    assert tokens.dtype == np.uint16 and tokens.ndim == 1 and ends.dtype == np.int64
    assert ends[-1] == len(tokens) and np.all(tokens[ends - 1] == 256)


def test_names_tell_the_content(sharded: tuple[Dataset, list[bytes]]) -> None:
    data, _ = sharded
    files = sorted((data.root / "train").iterdir())
    assert len(files) == 3 * len(data.manifest["splits"]["train"]["shards"])
    for file in files:
        assert file.stem.rpartition("-")[2] == hashlib.sha256(file.read_bytes()).hexdigest()[:16]


def test_damage_is_named(sharded: tuple[Dataset, list[bytes]]) -> None:
    data, texts = sharded
    data.verify()
    shard = shard_file(data, "tokens-00003")
    name = re.escape(shard.name)
    good = shard.read_bytes()
    shard.write_bytes(good[:-2])
    with pytest.raises(ValueError, match=rf"{name} has .* instead of .*truncated.*--overwrite"):
        Dataset.open(data.root)
    shard.write_bytes(good[:-2] + b"\x00\x00")
    tampered = Dataset.open(data.root)
    assert tampered.split("train").document(0)[:-1].astype(np.uint8).tobytes() == texts[0], "another shard is read all the same"
    with pytest.raises(ValueError, match=rf"{name} was changed.*--overwrite"):
        tampered.split("train").read(0, tampered.split("train").tokens)
    with pytest.raises(ValueError, match=rf"{name} was changed"):
        Dataset.open(data.root, verify=True)
    shard.unlink()
    with pytest.raises(ValueError, match=rf"{name} is missing"):
        Dataset.open(data.root)
    shard.write_bytes(good)
    sizes = shard_file(data, "bytes-00002")
    sizes.write_bytes(sizes.read_bytes()[:-1] + b"\x01")
    with pytest.raises(ValueError, match=rf"{re.escape(sizes.name)} was changed"):
        _ = Dataset.open(data.root).split("train").document_bytes
    tokenizer = data.root / "tokenizer" / "tokenizer.json"
    tokenizer.write_text(tokenizer.read_text() + " ")
    with pytest.raises(ValueError, match=r"(tokenizer\.json|bytes-00002-.*) was changed"):
        Dataset.open(data.root, verify=True)


def test_folders_of_the_first_format_are_read(sharded: tuple[Dataset, list[bytes]]) -> None:
    """Format 1 had no hash in the names of the shards."""
    data, texts = sharded
    manifest = json.loads((data.root / "manifest.json").read_text())
    for shard in manifest["splits"]["train"]["shards"]:
        for name in list(shard["files"]):
            old = f"{name.rpartition('-')[0]}.npy"
            (data.root / "train" / name).rename(data.root / "train" / old)
            shard["files"][old] = shard["files"].pop(name)
    (data.root / "manifest.json").write_text(json.dumps(manifest | {"version": 1}))
    split = Dataset.open(data.root, verify=True).split("train")
    assert [bytes(split.document(i)[:-1].astype(np.uint8)) for i in range(30)] == texts


def test_folders_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no prepared data at .*genus prepare"):
        Dataset.open(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="not a prepared data folder"):
        Dataset.open(tmp_path)
    (tmp_path / "manifest.json").write_text('{"short_name": "a web app"}')
    with pytest.raises(ValueError, match="not a manifest of genus prepare"):
        Dataset.open(tmp_path)
    (tmp_path / "manifest.json").write_text(json.dumps({"format": "genus-dataset", "version": 99}))
    with pytest.raises(ValueError, match="newer Genus"):
        Dataset.open(tmp_path)
