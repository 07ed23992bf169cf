"""Operations on a model's state as plain data. Every tensor of a state has the rows of the batch as its first dimension."""

from __future__ import annotations

from typing import Any

from torch import Tensor


def select_rows(state: Any, rows: Tensor) -> Any:
    """The same state with only some rows (B,) of the batch, in the order given."""
    if isinstance(state, Tensor):
        return state.index_select(0, rows)
    if isinstance(state, dict):
        return {key: select_rows(value, rows) for key, value in state.items()}
    if isinstance(state, list):
        return [select_rows(value, rows) for value in state]
    return state
