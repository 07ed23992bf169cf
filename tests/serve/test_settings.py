"""A server is closed to others unless it is told otherwise, and then it needs a key."""

from __future__ import annotations

from typing import Any

import pytest

from genus.serve.settings import Limits, Settings


def test_other_machines_need_a_key() -> None:
    for host in ("0.0.0.0", "::", "192.168.1.7", "example.org"):
        with pytest.raises(ValueError, match="GENUS_KEY"):
            Settings(("m",), host)
        assert not Settings(("m",), host, key="a-long-secret").loopback
    for host in ("127.0.0.1", "::1", "localhost", "127.8.8.8"):
        assert Settings(("m",), host).loopback


def test_a_key_is_long_and_not_shown() -> None:
    for key in ("", "short", "with a line\nend....", "schlüssel-schlüssel"):
        with pytest.raises(ValueError, match="at least 8"):
            Settings(("m",), key=key)
    assert "a-long-secret" not in repr(Settings(("m",), key="a-long-secret"))


def test_names_by_which_it_may_be_called() -> None:
    local = Settings(("m",), names=("models.example.org",))
    for host in ("127.0.0.1:8000", "localhost", "LOCALHOST:1", "[::1]:8000", "models.example.org:443"):
        assert local.may_call(host), host
    for stranger in (
        None,
        "",
        "evil.example",
        "127.0.0.1.evil.example",
        "localhost.evil.example",
        "10.0.0.1",
        "[::2]:8000",
        "[",
        ":",
    ):
        assert not local.may_call(stranger), stranger
    far = Settings(("m",), "0.0.0.0", key="a-long-secret")
    assert far.may_call("10.0.0.1:8000") and far.may_call("[2001:db8::1]") and not far.may_call("evil.example")


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"models": ()}, "no model"),
        ({"port": 70000}, "port"),
        ({"slots": 0}, "slots"),
        ({"idle": 0.0}, "idle"),
        ({"names": ("https://x",)}, "host name"),
    ],
)
def test_what_makes_no_sense_is_refused(options: dict[str, Any], what: str) -> None:
    with pytest.raises(ValueError, match=what):
        Settings(**{"models": ("m",), **options})
    with pytest.raises(ValueError, match="tokens"):
        Limits(tokens=0)
