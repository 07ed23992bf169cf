"""Generate: continue a prompt. `genus.generate("runs/mine", "Once upon a time").text`

The package is also the verb: calling it calls its function `generate`.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

from genus.generate.texts import Generation, Generator, generate

__all__ = ["Generation", "Generator", "generate"]


class _Verb(ModuleType):
    """A package that can be called, so that `genus.generate(...)` works whether or not its modules were imported before."""

    def __call__(self, *args: Any, **options: Any) -> Any:
        """See `generate`."""
        return generate(*args, **options)


sys.modules[__name__].__class__ = _Verb
