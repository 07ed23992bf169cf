"""Mixtures: how they are written, what share every source gets, which documents that means."""

import json

import numpy as np
import pytest

from genus.prepare import prepare
from genus.prepare.mixture import Share, copies, mix, shares, size
from genus.prepare.tree import tree


def test_as_they_are_written() -> None:
    assert shares(["web=crawl/@0.9", "poems=poems.txt@0.1"]) == (Share("web", "crawl/", 0.9), Share("poems", "poems.txt", 0.1))
    assert shares([{"path": "a", "cap": "20MB"}, {"name": "b", "path": "b", "weight": 0.5, "epochs": 4}]) == (
        Share("a", "a", cap=20_000_000), Share("b", "b", 0.5, 4.0),
    )  # fmt: skip
    assert shares(["mail=s3://me@host/box"]) == (Share("mail", "s3://me@host/box"),), "an @ of the path"
    assert [size("x", each) for each in ("20MB", "1.5 GB", "300", 300, "2k")] == [20_000_000, 1_500_000_000, 300, 300, 2000]


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        (["crawl"], "write NAME=PATH@WEIGHT"),
        (["a=x@0"], "source a: weight 0.0: give a share above 0"),
        (["a=x", "a=y"], "two sources are called a"),
        (["a=x@0.7", "b=y@0.3", "c=z"], r"weights sum to 1, so nothing is left .*\(c\)"),
        ([{"path": "a", "wieght": 1}], "no field 'wieght'; did you mean 'weight'"),
        ([{"name": "a"}], "every source has a path"),
        ([{"path": "a", "weight": "much"}], "weight 'much': give a number"),
        ([{"path": "a", "cap": "big"}], "cap 'big': give a size, such as 20MB"),
        ([{"path": "a", "epochs": 0}], "epochs 0.0"),
    ],
)
def test_what_is_wrong_is_said(entries: list, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        shares(entries)


def test_shares_of_all_are_exact_and_the_scarcest_sets_the_size() -> None:
    mixed = mix([Share("web", "", 0.9), Share("poems", "", 0.1, epochs=2)], [1000, 20])
    assert mixed.times == pytest.approx([0.36, 2.0])
    assert mixed.remarks == ["mixture: poems sets the size of all (epochs 2; more of them would allow more)"]
    assert mix([Share("a", "", 3), Share("b", "", 1)], [300, 100]).times == pytest.approx([1, 1])
    assert mix([Share("a", "", 1), Share("b", "", 1, cap=10)], [300, 100]).times == pytest.approx([10 / 300, 10 / 100])


def test_beside_sources_that_are_taken_whole() -> None:
    mixed = mix([Share("base", ""), Share("poems", "", 0.2, epochs=10)], [800, 100])
    assert mixed.times == pytest.approx([1.0, 2.0]) and not mixed.remarks
    short = mix([Share("base", ""), Share("poems", "", 0.2)], [800, 100])
    assert short.times == pytest.approx([1.0, 1.0])
    assert short.remarks == ["mixture: poems has text for 10.0% instead of 20.0% (epochs 1; more of them would allow more)"]
    assert mix([Share("a", "", cap=100), Share("b", "", epochs=2.5)], [1000, 10]).times == pytest.approx([0.1, 2.5])
    empty = mix([Share("base", ""), Share("a", "", 0.2), Share("b", "", 0.6)], [0, 100, 200])
    assert empty.times == pytest.approx([0, 2 / 3, 1]) and empty.remarks[0].startswith("mixture: base has no training text")
    with pytest.raises(ValueError, match="source poems has no training text"):
        mix([Share("base", ""), Share("poems", "", 0.2)], [800, 0])


def test_documents_by_hash() -> None:
    dice = np.random.default_rng(0)
    sizes, digests = dice.integers(1, 1000, 500), dice.integers(0, 2**64, (500, 2), dtype=np.uint64)
    found = copies(2.3, sizes, digests)
    assert set(found.tolist()) == {2, 3} and (found * sizes).sum() == pytest.approx(2.3 * sizes.sum(), abs=500)
    order = dice.permutation(500)
    assert np.array_equal(copies(2.3, sizes[order], digests[order]), found[order]), "not by place"
    assert not np.array_equal(copies(2.3, sizes, digests, seed=1), found)
    assert copies(1.0, sizes, digests).tolist() == [1] * 500 and copies(0.001, sizes[:1], digests[:1]).tolist() == [1]
    more = copies(0.6, sizes, digests)
    assert np.all(copies(0.3, sizes, digests) <= more), "a larger share holds the smaller one"


def test_what_is_stored(tmp_path) -> None:
    for name, count in (("web", 600), ("poems", 60), ("notes", 90)):
        lines = [f"{name} line number {i:06d} with some words" for i in range(count)]
        (tmp_path / f"{name}.txt").write_text("\n".join(lines))
    sources = [
        f"web={tmp_path / 'web.txt'}@0.5",
        {"name": "poems", "path": str(tmp_path / "poems.txt"), "weight": 0.25, "epochs": 3},
        {"name": "notes", "path": str(tmp_path / "notes.txt"), "weight": 0.25, "cap": "1.5kB"},
    ]
    told = {"split_documents": "line", "tokenizer": "bytes", "workers": 1}
    data = prepare((), tmp_path / "out", sources=sources, **told)
    again = prepare((), tmp_path / "again", sources=sources, **told | {"workers": 2})
    assert again.fingerprint == data.fingerprint
    train = data.split("train")
    stored = [data.tokenizer.decode(train.document(i)) for i in range(train.documents)]
    held = [
        data.tokenizer.decode(data.split(s).document(i)) for s in ("validation", "test") for i in range(data.split(s).documents)
    ]
    assert len(held) == len(set(held)) and not set(held) & set(stored), "only training text is repeated"
    of = {name: [text for text in stored if text.startswith(name)] for name in ("web", "poems", "notes")}
    total = sum(map(len, stored))
    assert len(" ".join(of["notes"])) <= 1600
    for name, share in (("web", 0.5), ("poems", 0.25), ("notes", 0.25)):
        assert sum(map(len, of[name])) / total == pytest.approx(share, abs=0.02)
    groups = {group["name"]: group for group in data.manifest["mixture"]}
    for name, texts in of.items():
        assert groups[name]["documents"] == len(texts) and groups[name]["bytes"] == sum(map(len, texts))
        assert groups[name]["tokens"] == sum(map(len, texts)) + len(texts)
    assert data.manifest["sources"][0]["group"] == "web" and data.manifest["funnel"][-1]["step"] == "mixture"
    left_out = [json.loads(line) for line in (tmp_path / "out/rejected/mixture.jsonl").read_text().splitlines()]
    assert len(left_out) == data.manifest["funnel"][-1]["dropped"]["beyond its source's share"] > 300
    account = tree(data.manifest, "out")
    assert "mixture of the training split" in account and "(asked 0.25)" in account
    assert "notes sets the size of all (epochs 1, cap 1,500 bytes)" in account


def test_copies_stand_apart_and_the_whole_is_stored_as_often(tmp_path) -> None:
    (tmp_path / "a.txt").write_text("\n".join(f"line {i}" for i in range(100)))
    source = {"name": "a", "path": str(tmp_path / "a.txt"), "epochs": 2.5}
    data = prepare((), tmp_path / "out", sources=[source], split_documents="line", tokenizer="bytes", validation=0, test=0)
    stored = [data.tokenizer.decode(data.split("train").document(i)) for i in range(250)]
    assert stored[:100] == stored[100:200] == [f"line {i}" for i in range(100)] and len(set(stored[200:])) == 50
    assert data.split("train").documents == 250 and data.split("train").tokens == sum(map(len, stored)) + 250


def test_a_path_beside_sources_is_a_group_of_its_own(tmp_path) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.txt").write_text("\n".join(f"{name} line {i:04d}" for i in range(200)))
    data = prepare(
        tmp_path / "a.txt", tmp_path / "out", sources=[f"b={tmp_path / 'b.txt'}@0.2"], split_documents="line", tokenizer="bytes"
    )
    a, b = data.manifest["mixture"]
    assert a["name"].endswith("a.txt") and a["copies"] == 1 and b["share"] == pytest.approx(0.2, abs=0.01)
