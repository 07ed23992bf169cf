"""Rotary positions in config.json: `rope_parameters` (transformers 5), `rope_theta` and `rope_scaling` (before)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from genus.parts.positions import Rotary, RotaryScaling


def read_rope(config: Mapping[str, Any], theta: float = 10000.0, share: float = 1.0) -> tuple[float, float, RotaryScaling | None]:
    """Base, rotated share of each head and frequency scaling; `theta` and `share` are the family's defaults.

    Raises:
        ValueError: a kind of scaling that is not built here.
    """
    rope = config.get("rope_scaling") or config.get("rope_parameters") or {}
    if any(isinstance(v, Mapping) for v in rope.values()):
        raise ValueError(f"config.json: rotary parameters that differ between layers are not supported ({', '.join(rope)})")
    theta = rope.get("rope_theta") or config.get("rope_theta") or theta
    share = rope.get("partial_rotary_factor") or config.get("partial_rotary_factor") or share
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind == "default":
        return theta, share, None
    if kind != "llama3":
        raise ValueError(f"config.json: rotary scaling {kind!r} is not supported, only 'default' and 'llama3'")
    context = rope.get("original_max_position_embeddings") or config["max_position_embeddings"]
    scaling = RotaryScaling(rope["factor"], rope["low_freq_factor"], rope["high_freq_factor"], context)
    return theta, share, scaling


def write_rope(rotary: Rotary, partial: bool = False) -> dict[str, Any]:
    """Both spellings. `partial`: the family rotates a share of each head."""
    scaling: dict[str, Any] | None = None
    if rotary.scaling is not None:
        scaling = {
            "rope_type": "llama3",
            "factor": float(rotary.scaling.factor),
            "low_freq_factor": float(rotary.scaling.low),
            "high_freq_factor": float(rotary.scaling.high),
            "original_max_position_embeddings": rotary.scaling.context,
        }
    new = {"rope_theta": float(rotary.theta), **(scaling or {"rope_type": "default"})}
    if partial:
        new["partial_rotary_factor"] = rotary.share
    return {"rope_theta": float(rotary.theta), "rope_scaling": scaling, "rope_parameters": new}
