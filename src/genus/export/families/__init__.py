"""Every `model_type` of Hugging Face transformers that is read and written as itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from genus.export.families import bert, gpt, llama, t5
from genus.export.families.family import Family, canonical
from genus.parts.model import Model
from genus.spec import nearest

FAMILIES: tuple[Family, ...] = (*gpt.FAMILIES, *llama.FAMILIES, *bert.FAMILIES, *t5.FAMILIES)

__all__ = ["FAMILIES", "canonical", "find", "match"]


def find(config: Mapping[str, Any]) -> Family:
    """The family that reads this config.json.

    Raises:
        ValueError: there is none, or the config asks for something that is not built here.
    """
    kind = config.get("model_type")
    candidates = [f for f in FAMILIES if f.model_type == kind]
    if not candidates:
        known = {f.model_type for f in FAMILIES} | {"genus"}
        raise ValueError(f"config.json: model_type {kind!r} is not known here{nearest(str(kind), known)}")
    for family in candidates[:-1]:
        try:
            family.read(config)
        except ValueError:
            continue
        return family
    return candidates[-1]


def match(spec: Model, context: int) -> tuple[Family, dict[str, Any]] | None:
    """The family that expresses this model exactly, and its config.json; None when no family does."""
    for family in FAMILIES:
        config = family.write(spec, context)
        if config is not None:
            return family, config
    return None
