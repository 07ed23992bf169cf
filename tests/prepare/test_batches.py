"""Batches of bounded size, and the files that keep them."""

import pytest

from genus.prepare import batches
from genus.prepare.batches import Builder, batches_of, read_store, schema, text_bytes, writing
from genus.prepare.items import Document


def test_batches_are_bounded_and_rows_numbered_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "ROWS", 10)
    monkeypatch.setattr(batches, "BYTES", 1000)
    texts = ["short"] * 25 + ["x" * 2000] + ["床前明月光"] * 3
    made = list(batches_of((Document(text, line=i) for i, text in enumerate(texts)), part=4))
    assert [each.num_rows for each in made] == [10, 10, 6, 3]
    assert [row for each in made for row in each.column("row").to_pylist()] == list(range(29))
    assert [text for each in made for text in each.column("text").to_pylist()] == texts
    assert made[2].column("part").to_pylist() == [4] * 6 and made[2].column("line").to_pylist() == list(range(20, 26))
    assert text_bytes(made[3]) == 3 * 15


def test_a_file_gives_back_what_was_written(tmp_path) -> None:
    builder = Builder(pairs=True)
    assert builder.add(Document("zwei", False, "two", 3, "page.html", "de"), 1, held_out=True) is None
    assert builder.add(Document("drei", True, "three"), 2) is None
    batch = builder.flush()
    assert batch is not None and builder.flush() is None and batch.schema == schema(pairs=True)
    with writing(tmp_path / "a.arrow", pairs=True) as store:
        store.write(batch)
        store.write(batch.slice(0, 0))
        assert not (tmp_path / "a.arrow").exists(), "it appears when it is complete"
    first, empty = read_store(tmp_path / "a.arrow")
    assert first.equals(batch) and empty.num_rows == 0 and text_bytes(empty) == 0
    assert list(first.to_pylist()[0].values()) == ["zwei", "two", 0, 1, 3, False, True, "page.html", "de"]
    assert first.schema.names == ["text", "source_text", "row", "part", "line", "starts", "held_out", "name", "language"]
    assert [path.name for path in tmp_path.iterdir()] == ["a.arrow"]


def test_a_file_of_nothing(tmp_path) -> None:
    with writing(tmp_path / "a.arrow"):
        pass
    assert list(read_store(tmp_path / "a.arrow")) == []
    with pytest.raises(KeyError), writing(tmp_path / "b.arrow"):
        raise KeyError
    assert [path.name for path in tmp_path.iterdir()] == ["a.arrow"], "nor does what failed leave anything"
