"""Opening and reading prepared folders: slices over shards, damage, errors."""

import json
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
    tokens = np.load(data.root / "train" / "tokens-00001.npy", allow_pickle=False)
    ends = np.load(data.root / "train" / "ends-00001.npy", allow_pickle=False)
    assert tokens.dtype == np.uint16 and tokens.ndim == 1 and ends.dtype == np.int64
    assert ends[-1] == len(tokens) and np.all(tokens[ends - 1] == 256)


def test_damage_is_named(sharded: tuple[Dataset, list[bytes]]) -> None:
    data, _ = sharded
    data.verify()
    shard = data.root / "train" / "tokens-00003.npy"
    good = shard.read_bytes()
    shard.write_bytes(good[:-2])
    with pytest.raises(ValueError, match=r"tokens-00003\.npy has .* instead of .*truncated.*--overwrite"):
        Dataset.open(data.root)
    shard.write_bytes(good[:-2] + b"\x00\x00")
    Dataset.open(data.root)
    with pytest.raises(ValueError, match=r"tokens-00003\.npy was changed"):
        Dataset.open(data.root, verify=True)
    shard.unlink()
    with pytest.raises(ValueError, match=r"tokens-00003\.npy is missing"):
        Dataset.open(data.root)
    shard.write_bytes(good)
    tokenizer = data.root / "tokenizer" / "tokenizer.json"
    tokenizer.write_text(tokenizer.read_text() + " ")
    with pytest.raises(ValueError, match=r"tokenizer\.json was changed"):
        Dataset.open(data.root, verify=True)


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
