"""Where things are kept that can be made again."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def cache_folder() -> Path:
    """Where the system keeps what can be made again: $XDG_CACHE_HOME/genus, or what stands for it here."""
    if os.environ.get("XDG_CACHE_HOME"):
        return Path(os.environ["XDG_CACHE_HOME"]) / "genus"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "genus"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "genus" / "Cache"
    return Path.home() / ".cache" / "genus"
