"""Reasons to trust a forecast less than its table's fit suggests, each with what to do about it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from genus.plan.blend import Member
from genus.plan.rolling import Rolling
from genus.plan.table import Array, Runs


@dataclass(frozen=True)
class Doubt:
    """A warning, and the factor by which it widens the interval."""

    text: str
    factor: float


def find(runs: Runs, members: Sequence[Member], weights: Array, rolling: Rolling) -> list[Doubt]:
    return []
