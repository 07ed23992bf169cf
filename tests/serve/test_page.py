"""The page's files are given from memory, and nothing else is."""

from __future__ import annotations

from pathlib import Path

from fastapi import FastAPI
from fastapi.testclient import TestClient

from genus.serve.page import FOLDER, router

from .conftest import Site


def test_files(tmp_path: Path) -> None:
    (tmp_path / "page" / "parts").mkdir(parents=True)
    (tmp_path / "page" / "index.html").write_text("<p>hello", encoding="utf-8")
    (tmp_path / "page" / "parts" / "a.js").write_text("1", encoding="utf-8")
    (tmp_path / "page" / "notes.py").write_text("secret", encoding="utf-8")
    (tmp_path / "secret.html").write_text("secret", encoding="utf-8")
    app = FastAPI()
    app.include_router(router(tmp_path / "page"))
    (tmp_path / "page" / "parts" / "a.js").write_text("changed on disk", encoding="utf-8")
    client = TestClient(app)
    assert client.get("/").text == client.get("/index.html").text == "<p>hello"
    script = client.get("/parts/a.js")
    assert script.text == "1" and script.headers["content-type"].startswith("text/javascript")
    again = client.get("/parts/a.js", headers={"If-None-Match": script.headers["etag"]})
    assert again.status_code == 304 and not again.content
    for path in ("/notes.py", "/../secret.html", "/%2e%2e/secret.html", "/parts", "/parts/../../secret.html"):
        assert client.get(path).status_code == 404, path


def test_the_page_of_the_server(site: Site) -> None:
    reply = site.get("/")
    if not (FOLDER / "index.html").is_file():
        assert reply.status == 404
        return
    assert reply.status == 200 and reply.headers["content-type"] == "text/html; charset=utf-8"
    text = reply.body.decode()
    assert "http://" not in text.replace("http://www.w3.org", "") and "<script>" not in text, "the policy allows no such thing"
