"""Who may come in, and with how much."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from genus.serve.settings import Limits, Settings

from .conftest import Site, running

KEY = "a-long-secret"
HEAD = f"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {KEY}\r\n".encode()
HEAD += b"Content-Type: application/json\r\n"


@pytest.fixture(scope="module")
def closed(folder: Path) -> Iterator[Site]:
    """A server with a key, and tight limits."""
    limits = Limits(body=20_000, upload=0.3)
    with running(Settings((str(folder / "writer"),), port=0, key=KEY, limits=limits)) as site:
        yield site


def test_the_key(closed: Site) -> None:
    for path in ("/v1/models", "/metrics", "/openapi.json"):
        for header in ({}, {"Authorization": f"Bearer {KEY}x"}, {"Authorization": KEY}, {"Authorization": "Bearer "}):
            refused = closed.get(path, **header)
            assert refused.status == 401 and refused.error["code"] == "invalid_api_key"
            assert refused.headers["www-authenticate"] == "Bearer" and KEY not in refused.body.decode()
        assert closed.get(path, Authorization=f"Bearer {KEY}").status == 200
    assert closed.get("/v1/nothing").status == 401  # what is there is nobody's business
    assert closed.get("/health").json == {"status": "ok"}


def test_other_names_and_other_sites(site: Site) -> None:
    for host in ("evil.example", f"evil.example:{site.port}", "10.0.0.1"):
        refused = site.get("/v1/models", Host=host)
        assert refused.status == 403 and refused.error["code"] == "host_not_allowed"
    assert site.get("/v1/models", Host="localhost").status == 200
    for origin in ("https://evil.example", "null", f"http://127.0.0.1:{site.port + 1}"):
        refused = site.get("/v1/models", Origin=origin)
        assert refused.status == 403 and refused.error["code"] == "origin_not_allowed"
        assert not [name for name in refused.headers if name.startswith("access-control")]
    own = site.get("/v1/models", Origin=site.url)
    assert own.status == 200 and "access-control-allow-origin" not in own.headers


def test_no_host_or_two(site: Site) -> None:
    for hosts in ("", "Host: localhost\r\nHost: localhost\r\n"):
        with socket.create_connection(("127.0.0.1", site.port), timeout=10) as s:
            s.sendall(f"GET /health HTTP/1.1\r\n{hosts}\r\n".encode())
            assert s.recv(100).split()[1] in (b"400", b"403")


def test_large_bodies_are_not_read(closed: Site) -> None:
    refused = closed.post("/v1/completions", b"x" * 20_001, Authorization=f"Bearer {KEY}")
    assert refused.status == 413 and refused.headers["connection"] == "close"
    with socket.create_connection(("127.0.0.1", closed.port), timeout=10) as s:  # one that does not say how large it is
        s.sendall(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
        for _ in range(21):
            s.sendall(b"3e8\r\n" + b" " * 1000 + b"\r\n")
        assert s.recv(100).split()[1] == b"413"


def test_slow_bodies_are_not_waited_for(closed: Site) -> None:
    with socket.create_connection(("127.0.0.1", closed.port), timeout=10) as s:
        s.sendall(HEAD + b"Content-Length: 100\r\n\r\n{")
        start = time.monotonic()
        assert s.recv(100).split()[1] == b"408" and time.monotonic() - start < 8


def test_only_json(site: Site) -> None:
    refused = site.post("/v1/completions", b"{}", Content_Type="text/plain")
    assert refused.status == 415
    for body in (b"{", b"", b"[" * 100_000, b"\xff\xfe", b'{"model": "writer", "prompt": "\\ud800", "max_tokens": 1}'):
        refused = site.post("/v1/completions", body)
        assert refused.status == 400 and refused.error["type"] == "invalid_request_error", body[:10]


def test_headers_of_every_answer(site: Site) -> None:
    for path in ("/health", "/nothing", "/v1/models"):
        headers = site.get(path).headers
        assert "default-src 'none'" in headers["content-security-policy"] and "unsafe" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff" and headers["x-frame-options"] == "DENY"
        assert "server" not in headers


def test_addresses_and_methods(site: Site) -> None:
    for path in ("/v1/nothing", "/../../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "/v1/models/../../x", "/page/index.html"):
        assert site.get(path).status == 404 and site.get(path).error["type"] == "not_found_error"
    refused = site.get("/v1/completions")
    assert refused.status in (404, 405) and "error" in refused.json
    unknown = site.get("/v1/models/riter")
    assert unknown.status == 404 and "did you mean 'writer'" in unknown.error["message"] and unknown.error["param"] == "model"
