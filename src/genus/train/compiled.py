"""`torch.compile` with a way back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch


def compiled(function: Callable[..., Any], say: Callable[[str], None]) -> Callable[..., Any]:
    """`function`, compiled; where compilation fails (no C++ compiler, say), the function itself, after saying so once."""
    fast: Callable[..., Any] | None = torch.compile(function)

    def run(*arguments: Any) -> Any:
        nonlocal fast
        if fast is None:
            return function(*arguments)
        try:
            return fast(*arguments)
        except Exception as error:  # whatever the compiler raises; a real error comes again from the plain function
            fast = None
            result = function(*arguments)
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            say(f"torch.compile failed ({reason}); going on without it, at the plain speed")
            return result

    return run
