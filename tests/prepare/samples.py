"""Small true files of every kind, and how to read them."""

import io
import tarfile
import zipfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as parquet

from genus.prepare.decode import guess_encoding
from genus.prepare.items import Document, Item, Lines, Reject, Remark
from genus.prepare.limits import Budget
from genus.prepare.readers import TABLE, kind_of, read_stream
from genus.prepare.readers.job import Job
from genus.prepare.sources import find
from genus.prepare.units import cut, read

PARAGRAPH = (
    "The harbour was built in three stages, and every one of them cost more than the town had. "
    "When the last stone was laid, the ships had become too large for it. "
)
PAGE = (
    "<html><head><title>Harbour</title><style>p {color: red}</style></head><body><nav><a href='/'>Home</a></nav><article>"
    f"<h1>The harbour</h1><p>{PARAGRAPH}</p><p>{PARAGRAPH[::-1]}</p></article><footer>Copyright</footer></body></html>"
)
MESSAGE = (
    "From: Anna <anna@example.org>\r\nTo: Ben <ben@example.org>\r\nSubject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\n"
    "Message-ID: <1@example.org>\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n"
    "Content-Transfer-Encoding: 8bit\r\n\r\nThe ship is late.\r\nFrom here one sees nothing.\r\n"
)


def pdf(*pages: str) -> bytes:
    """A PDF of pages with one line each."""
    objects = [b"<</Type/Catalog/Pages 2 0 R>>", b"", b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>"]
    kids = []
    for text in pages:
        content = f"BT /F1 12 Tf 72 700 Td ({text}) Tj ET".encode()
        objects.append(b"<</Length %d>>stream\n%s\nendstream" % (len(content), content))
        objects.append(
            b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 612 792]/Contents %d 0 R/Resources<</Font<</F1 3 0 R>>>>>>" % len(objects)
        )
        kids.append(b"%d 0 R" % len(objects))
    objects[1] = b"<</Type/Pages/Count %d/Kids[%s]>>" % (len(kids), b" ".join(kids))
    out, places = b"%PDF-1.4\n", []
    for number, each in enumerate(objects, 1):
        places.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, each)
    start = len(out)
    out += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1) + b"".join(b"%010d 00000 n \n" % place for place in places)
    return out + b"trailer<</Size %d/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF\n" % (len(objects) + 1, start)


def zipped(members: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return out.getvalue()


def tarred(members: dict[str, bytes], mode: str = "w") -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode) as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return out.getvalue()


def docx(text: str) -> bytes:
    word = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
    office = "http://schemas.openxmlformats.org/officeDocument/2006/relationships/officeDocument"
    package = "http://schemas.openxmlformats.org/package/2006"
    kind = "application/vnd.openxmlformats-officedocument.wordprocessingml.document.main+xml"
    return zipped(
        {
            "[Content_Types].xml": f'<Types xmlns="{package}/content-types"><Default Extension="rels" ContentType='
            f'"application/vnd.openxmlformats-package.relationships+xml"/><Override PartName="/word/document.xml" '
            f'ContentType="{kind}"/></Types>'.encode(),
            "_rels/.rels": f'<Relationships xmlns="{package}/relationships"><Relationship Id="r1" Type="{office}" '
            f'Target="word/document.xml"/></Relationships>'.encode(),
            "word/document.xml": f'<w:document xmlns:w="{word}"><w:body><w:p><w:r><w:t>{text}</w:t></w:r></w:p></w:body>'
            f"</w:document>".encode(),
        }
    )


def warc() -> bytes:
    from warcio.statusandheaders import StatusAndHeaders
    from warcio.warcwriter import WARCWriter

    out = io.BytesIO()
    writer = WARCWriter(out, gzip=False)
    for address, status, kind, content in (
        ("http://a.example/", "200 OK", "text/html; charset=utf-8", PAGE),
        ("http://a.example/gone", "404 Not Found", "text/html", PAGE),
        ("http://a.example/x.png", "200 OK", "image/png", "PNG"),
        ("http://a.example/plain", "200 OK", "text/plain", "Plain text, as it is."),
        ("http://a.example/empty", "200 OK", "text/html", "<html></html>"),
    ):
        headers = StatusAndHeaders(status, [("Content-Type", kind)], protocol="HTTP/1.1")
        raw = io.BytesIO(content.encode())
        writer.write_record(writer.create_warc_record(address, "response", payload=raw, http_headers=headers))
    return out.getvalue()


def table(kind: str) -> bytes:
    out = io.BytesIO()
    rows = pa.table({"n": [1, 2, 3], "text": ["eins", "zwei", "drei"]})
    if kind == "parquet":
        parquet.write_table(rows, out)
    else:
        with pa.ipc.new_stream(out, rows.schema) as writer:
            writer.write_table(rows)
    return out.getvalue()


def samples() -> dict[str, bytes]:
    """Name -> content."""
    inner = {"a.txt": b"text one", "b.jsonl": b'{"text": "two"}\n', "c.html": PAGE.encode(), "d.png": b"\x89PNG"}
    return {
        "a.txt": "one\n\ntwo\n月\n".encode(),
        "a.jsonl": b'{"text": "one"}\n{"text": "two"}\n',
        "a.json": b'[{"text": "one"}, {"text": "two"}]',
        "a.csv": b'n,text\n1,"one\nline"\n2,two\n',
        "a.tsv": b"1\tone\n2\ttwo\n",
        "a.parquet": table("parquet"),
        "a.arrow": table("arrow"),
        "a.html": PAGE.encode(),
        "a.warc": warc(),
        "a.pdf": pdf("One page", "Another"),
        "a.docx": docx("A document"),
        "a.eml": MESSAGE.encode(),
        "a.mbox": f"From a Mon\n{MESSAGE}\n\nFrom b Tue\n{MESSAGE}".encode(),
        "a.srt": b"1\n00:00:01,000 --> 00:00:02,000\n<i>Hello</i>\n",
        "a.py": b"def one():\n    return 1\n",
        "a.zip": zipped(inner),
        "a.tar": tarred(inner),
    }


def items_of(name: str, content: bytes, mode: str = "file", field: str = "text") -> list[Item]:
    """What a file of this name and content gives."""
    kind, _ = kind_of(name)
    assert kind is not None
    encoding = guess_encoding(content[: 2**16]) if TABLE[kind].encoded else "utf-8"
    known = None if TABLE[kind].archive else 1 if kind == "tsv" else field
    job = Job(kind, name, mode, encoding, known, size=len(content), budget=Budget(len(content)))
    return list(read_stream(io.BufferedReader(io.BytesIO(content)), job))  # type: ignore[type-var]


def items_at(place: str | Path, mode: str = "file", **options: str) -> list[Item]:
    """What `prepare` would read there."""
    sources = find([place], **options).sources
    return [item for unit in cut(sources, mode) for part in unit for item in read(sources[part.source], part, mode)]


def documents(items: list[Item]) -> list[Document]:
    return [item for item in items if isinstance(item, Document)]


def texts(items: list[Item]) -> list[str]:
    return [item.text for item in documents(items)]


def rejects(items: list[Item]) -> list[tuple[str | None, str]]:
    return [(item.name, item.reason) for item in items if isinstance(item, Reject)]


def remarks(items: list[Item]) -> list[str]:
    return [item.text for item in items if isinstance(item, Remark)]


def lines(items: list[Item]) -> int:
    return sum(item.number for item in items if isinstance(item, Lines))
