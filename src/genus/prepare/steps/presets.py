"""Ready-made lists of steps, by what they clean.

`--steps web language:keep=en` takes a list and sets a field of one of its steps.
"""

from __future__ import annotations

PRESETS: dict[str, tuple[str, ...]] = {}
"""Name -> steps, in the order they run in."""
