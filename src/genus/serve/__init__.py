"""Serve: models behind OpenAI's interface. `genus.serve(["runs/mine"])`, or `genus serve runs/mine`."""

from __future__ import annotations

from genus.serve.app import create_app
from genus.serve.server import serve
from genus.serve.settings import Limits, Settings
from genus.verb import make_callable

__all__ = ["Limits", "Settings", "create_app", "serve"]

make_callable(__name__)
