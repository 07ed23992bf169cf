"""Doctor: what this machine is, what it can do, which way every operation goes on it, and what is missing."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from genus.verb import make_callable

if TYPE_CHECKING:
    from genus.doctor.examination import Examination

__all__ = ["doctor"]


def doctor(quick: bool = False, say: Callable[[str], None] = lambda _: None) -> Examination:
    """Examine the machine; `genus.doctor.findings.findings` says what is missing.

    Args:
        quick: measure nothing. say: told what is being done.
    """
    from genus.doctor.examination import examine

    return examine(quick, say)


make_callable(__name__)
