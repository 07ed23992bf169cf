"""Ready-made lists of steps, by what they clean.

`--steps web language:keep=en` takes a list and sets a field of one of its steps.
"""

from __future__ import annotations

PRESETS: dict[str, tuple[str, ...]] = {
    "tidy": ("unicode",),
    "web": (
        "unicode",
        "boilerplate",
        "language",
        "repetition",
        "gopher",
        "c4:terminal=no",  # as FineWeb does: the rule about ends of lines removes a third of everything
        "fineweb",
        "chinese",
        "near-duplicates",
        "personal-data",
    ),
    "code": ("near-duplicates", "secrets"),
}
"""Name -> steps, in the order they run in."""
