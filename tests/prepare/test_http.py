"""Files behind http:// addresses, from a server on this machine: fsspec's HTTP file system, and not only the one in memory."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

from genus.prepare import prepare
from genus.prepare.sources import find

from .samples import PAGE, items_at, pdf, rejects, texts, zipped

pytest.importorskip("aiohttp", reason='fsspec reads http:// with aiohttp: pip install "genus[remote]"')

LINES = "".join(f"Line {i} of a text that is read from afar, 月.\n" for i in range(20_000))


class Site(NamedTuple):
    """An address, and the folder that it serves."""

    address: str
    folder: Path


class Handler(SimpleHTTPRequestHandler):
    """Without ranges, as many small servers are; a file called "broken" ends before its length."""

    def log_message(self, *_: object) -> None:
        pass

    def copyfile(self, source, outputfile) -> None:  # type: ignore[no-untyped-def]
        if "broken" in self.path:
            outputfile.write(source.read(3_000_000))
            self.close_connection = True
            return
        super().copyfile(source, outputfile)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    folder = tmp_path / "site"
    (folder / "corpus" / "inner").mkdir(parents=True)
    (folder / "corpus" / "a.txt").write_text(LINES)
    (folder / "corpus" / "b.jsonl.gz").write_bytes(gzip.compress(b'{"text": "two"}\n'))
    (folder / "corpus" / "inner" / "c.zip").write_bytes(zipped({"x.txt": b"in a zip"}))
    (folder / "corpus" / "inner" / "d.pdf").write_bytes(pdf("On paper"))
    parquet.write_table(pa.table({"text": ["in a table"]}), folder / "corpus" / "inner" / "e.parquet")
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield Site(f"http://127.0.0.1:{server.server_port}/corpus", folder / "corpus")
    server.shutdown()
    server.server_close()
    thread.join(10)


def test_a_folder_a_pattern_and_files(site: Site) -> None:
    found = find([f"{site.address}/"])
    names = [source.label.removeprefix(site.address) for source in found.sources]
    assert names == ["/a.txt", "/b.jsonl.gz", "/inner/c.zip", "/inner/d.pdf", "/inner/e.parquet"]
    assert found.sources[0].size == len(LINES.encode())
    assert texts(items_at(f"{site.address}/inner/")) == ["in a zip", "On paper", "in a table"]
    assert texts(items_at(f"{site.address}/*.gz")) == ["two"]
    with pytest.raises(ValueError, match=r"no such file or folder: http://.*/nothing\.txt"):
        find([f"{site.address}/nothing.txt"])


def test_a_page_without_a_suffix_is_a_page(site: Site) -> None:
    (site.folder / "empty").mkdir()
    (site.folder / "empty" / "index.html").write_text(PAGE)  # what the server gives for the folder
    (source,) = find([f"{site.address}/empty/"]).sources
    assert source.format == "html" and "when the last stone was laid" in texts(items_at(f"{site.address}/empty/"))[0].lower()


def test_the_same_folder_as_from_local_files(site: Site, tmp_path: Path) -> None:
    options = {"tokenizer": "bytes", "split_documents": "line"}
    near = prepare(site.folder, tmp_path / "NEAR", workers=1, **options)
    far = prepare(f"{site.address}/", tmp_path / "FAR", workers=2, **options)
    assert near.fingerprint == far.fingerprint and far.split("train").documents > 15_000


def test_a_server_that_is_gone_and_one_that_breaks_off(site: Site) -> None:
    (site.folder / "broken.txt").write_text(5 * LINES)
    items = items_at(f"{site.address}/broken.txt", "line")
    assert rejects(items) == [(None, "damaged file, rest not read")]
    assert 0 < len(texts(items)) < 80_000
    with pytest.raises(ValueError, match="cannot be reached"):
        find(["http://127.0.0.1:9/a.txt"])
