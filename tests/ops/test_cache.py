"""Where things are kept that can be made again."""

from __future__ import annotations

from pathlib import Path

import pytest

from genus.ops.cache import cache_folder


@pytest.mark.parametrize(
    ("platform", "folder"),
    [("darwin", "Library/Caches/genus"), ("win32", "AppData/Local/genus/Cache"), ("linux", ".cache/genus")],
)
def test_where_each_system_keeps_such_things(platform: str, folder: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("sys.platform", platform)
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    assert cache_folder() == tmp_path / folder
