"""Every format: what its documents are, where they stand, and what is left aside."""

import bz2
import gzip
import io
import lzma
import zipfile
from pathlib import Path

import pytest
import zstandard

from genus.prepare.items import Document
from genus.prepare.readers import SUFFIXES, TABLE, kind_of, suffix_of
from genus.prepare.readers.code import unwritten
from genus.prepare.readers.languages import language_of

from .samples import (
    MESSAGE,
    PAGE,
    PARAGRAPH,
    documents,
    docx,
    items_at,
    items_of,
    pdf,
    rejects,
    remarks,
    samples,
    tarred,
    texts,
    warc,
    zipped,
)


def test_kinds_are_told_by_names() -> None:
    assert kind_of("a/B.TAR.GZ") == kind_of("x.tgz") == ("tar", "gz") and kind_of("x.tbz2") == ("tar", "bz2")
    assert (
        kind_of("crawl.warc.gz") == ("warc", "gz") and kind_of("a.py") == ("code", None) and kind_of("a.xyz.xz") == (None, "xz")
    )
    assert kind_of("src/Makefile") == ("code", None) and kind_of("README") == (None, None)
    assert suffix_of("a/x.png.gz") == ".png.gz" and suffix_of("README") == ""
    assert language_of("x/y.TSX") == "typescript" and language_of("Dockerfile") == "dockerfile"
    assert len(SUFFIXES) == sum(len(entry.suffixes) for entry in TABLE.values()), "a suffix stands for two formats"


@pytest.mark.parametrize("name", samples())
def test_every_sample_gives_documents_and_nothing_else(name: str) -> None:
    items = items_of(name, samples()[name])
    assert documents(items) and all(item.text.strip() for item in documents(items))
    assert [reason for _, reason in rejects(items)] == (["no main text"] if name == "a.warc" else [])


def test_the_main_text_of_a_page() -> None:
    (text,) = texts(items_of("a.html", PAGE.encode()))
    assert PARAGRAPH.strip() in text and "Copyright" not in text and "Home" not in text and "color" not in text
    german = PAGE.replace("The harbour was", "Der Hafen wäre").replace("<head>", '<head><meta charset="iso-8859-1">')
    assert "Der Hafen wäre" in texts(items_of("a.html", german.encode("latin-1")))[0]


def test_a_web_archive() -> None:
    items = items_of("a.warc", warc())
    page, plain = documents(items)
    assert page.name == "http://a.example/" and PARAGRAPH.strip() in page.text and page.line == 1
    assert (plain.text, plain.name, plain.line) == ("Plain text, as it is.", "http://a.example/plain", 4)
    assert rejects(items) == [("http://a.example/empty", "no main text")]
    assert remarks(items) == ["records without a text left aside: 1 HTTP 404, 1 image/png"]


def test_a_web_archive_whose_records_are_compressed_one_by_one(tmp_path: Path) -> None:
    raw = warc()
    half = raw.index(b"WARC/1.0", 20)
    (tmp_path / "a.warc.gz").write_bytes(gzip.compress(raw[:half]) + gzip.compress(raw[half:]))
    assert len(documents(items_at(tmp_path))) == 2


def test_pdf() -> None:
    assert texts(items_of("a.pdf", pdf("One page", "Another"))) == ["One page\n\nAnother"]
    assert rejects(items_of("a.pdf", pdf(""))) == [(None, "no text in the PDF")]
    assert rejects(items_of("a.pdf", b"%PDF-1.4 nonsense")) == [(None, "PDF that cannot be parsed")]


def test_office_documents_and_books() -> None:
    assert texts(items_of("a.docx", docx("A document"))) == ["A document"]
    import openpyxl

    book = openpyxl.Workbook()
    book.active.append(["ship", "year"])
    book.active.append(["Thetis", 1871])
    out = io.BytesIO()
    book.save(out)
    assert "| Thetis | 1871 |" in texts(items_of("a.xlsx", out.getvalue()))[0]
    epub = zipped(
        {
            "mimetype": b"application/epub+zip",
            "META-INF/container.xml": b'<container xmlns="urn:oasis:names:tc:opendocument:xmlns:container"><rootfiles>'
            b'<rootfile full-path="c.opf"/></rootfiles></container>',
            "c.opf": b'<package xmlns="http://www.idpf.org/2007/opf"><metadata/><manifest><item id="i" href="t.xhtml"/>'
            b'</manifest><spine><itemref idref="i"/></spine></package>',
            "t.xhtml": b"<html><body><h1>Chapter</h1><p>Call me Ishmael.</p></body></html>",
        }
    )
    assert "Call me Ishmael." in texts(items_of("a.epub", epub))[0]
    assert rejects(items_of("a.docx", b"\xd0\xcf\x11\xe0" + b"\0" * 600)) == [(None, "encrypted")]


def test_messages_and_mailboxes() -> None:
    (message,) = documents(items_of("a.eml", MESSAGE.encode()))
    assert message.text == "Grüße\n\nThe ship is late.\nFrom here one sees nothing." and message.name == "<1@example.org>"
    html = MESSAGE.replace("text/plain", "text/html").replace("The ship", "<style>p{}</style><b>The ship</b>")
    assert texts(items_of("a.eml", html.encode())) == ["Grüße\n\nThe ship\nis late.\nFrom here one sees nothing."]
    box = f"From a Mon\n{MESSAGE}\n\nFrom b Tue\n{MESSAGE}".replace("\r\nFrom here", "\r\n>From here").replace("\r\n", "\n")
    items = items_of("a.mbox", box.encode())
    assert [item.line for item in documents(items)] == [1, 14] and set(texts(items)) == {message.text}
    assert rejects(items_of("a.mbox", b"just a letter\n")) == [(None, "no mailbox")]


def test_subtitles_are_what_is_said() -> None:
    srt = "\ufeff1\r\n00:00:01,000 --> 00:00:02,000\r\n<i>Hello,</i>\r\n- world &amp; all\r\n\r\n"
    srt += "2\r\n00:00:03,000 --> 00:00:04,000\r\n42\r\n"
    assert texts(items_of("a.srt", srt.encode())) == ["Hello,\n- world & all\n42"]
    vtt = "WEBVTT\n\nNOTE not said\n\nSTYLE\n::cue {}\n\n"
    vtt += "01:02.000 --> 01:03.000 align:left\n<v Anna>One\n\n01:04.000 --> 01:05.000\nOne\nTwo\n"
    assert texts(items_of("a.vtt", vtt.encode())) == ["One\nTwo"]


def test_code_has_a_language_and_no_generated_files() -> None:
    code = "import os\n\n\ndef main():\n    return os.getcwd()\n"
    assert documents(items_of("a/b.py", code.encode())) == [Document(code, name="a/b.py", language="python")]
    assert rejects(items_of("a.py", b"# Generated by the protocol buffer compiler.  DO NOT EDIT!\nx = 1\n")) == [
        (None, "generated code")
    ]
    assert rejects(items_of("a.js", b"var a=1;" * 1000)) == [(None, "minified code or data")]
    assert rejects(items_of("a.c", b"int x;\n" * 200_000)) == [(None, "document too large")]
    assert rejects(items_of("a.c", b"\0\1\2\3" * 100)) == [(None, "not text")]
    assert unwritten('print("do not edit")\n') is None


MEMBERS = {
    "data/a.txt": b"text one",
    "data/b.jsonl": b'{"text": "two"}\n{"nothing": 1}\n',
    "data/c.csv": b"id,review\n1,three\n",
    "data/d.json": b'[{"x": 1, "y": 2}]',
    "data/e.png": b"\x89PNG",
    "data/f.py": b"x = 4\n",
    "data/g.txt.gz": gzip.compress(b"five"),
    "__MACOSX/data/a.txt": b"not this",
    "data/.h.txt": b"nor this",
    "data/i.zip": zipped({"j.txt": b"six", "k.tar": tarred({"l.txt": b"seven"})}),
    "data/m.parquet": samples()["a.parquet"],
}


@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz", "tgz", "tar.bz2", "tar.xz", "tar.zst"])
def test_members_of_archives_in_every_compression(kind: str, tmp_path: Path) -> None:
    packers = {"gz": gzip.compress, "tgz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress, "zst": zstandard.compress}
    raw = zipped(MEMBERS) if kind == "zip" else tarred(MEMBERS)
    packer = packers.get(kind.rpartition(".")[2])
    (tmp_path / f"a.{kind}").write_bytes(packer(raw) if packer else raw)
    items = items_at(tmp_path)
    assert [(item.name, item.text) for item in documents(items)] == [
        ("data/a.txt", "text one"),
        ("data/b.jsonl", "two"),
        ("data/c.csv", "three"),
        ("data/f.py", "x = 4\n"),
        ("data/g.txt.gz", "five"),
        ("data/i.zip/j.txt", "six"),
        ("data/i.zip/k.tar/l.txt", "seven"),
        *(("data/m.parquet", text) for text in ("eins", "zwei", "drei")),
    ]
    assert rejects(items) == [("data/b.jsonl", "no field 'text'"), ("data/d.json", "no text field")]
    assert remarks(items) == ["members left aside: 1 .png, 2 .txt"]
    assert next(item.language for item in documents(items) if item.name == "data/f.py") == "python"


def test_a_field_asked_for_is_asked_for_in_archives(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(zipped({"a.jsonl": b'{"text": "no", "body": "yes"}\n', "b.csv": b"body,x\nyes too,1\n"}))
    assert texts(items_at(tmp_path, text_field="body")) == ["yes", "yes too"]


def test_a_large_zip_is_divided_among_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from genus.prepare import units
    from genus.prepare.sources import find

    monkeypatch.setattr(units, "SMALLEST_UNIT", 1000)
    monkeypatch.setattr(units, "LARGEST_UNIT", 1000)
    members = {f"{i:03d}.txt": f"document {i} ".encode() * 20 for i in range(100)}
    (tmp_path / "a.zip").write_bytes(zipped(members, zipfile.ZIP_STORED))
    parts = [part for unit in units.cut(find([tmp_path]).sources, "file") for part in unit]
    assert len(parts) > 5 and parts[0].start == 0 and parts[-1].stop == 100
    assert [item.name for item in documents(items_at(tmp_path))] == list(members)


def test_long_names_in_tar(tmp_path: Path) -> None:
    import tarfile

    for form in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        name = "folder/" * 40 + "月.txt"
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w", format=form) as archive:
            member = tarfile.TarInfo(name)
            member.size = 4
            archive.addfile(member, io.BytesIO(b"text"))
        (item,) = documents(items_of("a.tar", out.getvalue()))
        assert item.text == "text" and item.name == "…" + name[-199:]


def test_more_compressions_of_plain_files(tmp_path: Path) -> None:
    (tmp_path / "a.txt.bz2").write_bytes(bz2.compress(b"one"))
    (tmp_path / "b.jsonl.xz").write_bytes(lzma.compress(b'{"text": "two"}\n'))
    assert texts(items_at(tmp_path)) == ["one", "two"]
