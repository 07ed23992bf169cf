"""Generate: continue a prompt. `genus.generate("runs/mine", "Once upon a time").text`"""

from __future__ import annotations

from genus.generate.beam import Beam
from genus.generate.texts import Generation, Generator, generate
from genus.verb import make_callable

__all__ = ["Beam", "Generation", "Generator", "generate"]

make_callable(__name__)
