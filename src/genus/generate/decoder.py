"""How running rows get their next tokens."""

from __future__ import annotations

from collections.abc import Sequence as Sequence_
from typing import TYPE_CHECKING, Protocol

from genus.generate.sampling import Choice, pick
from genus.generate.sequence import Sequence
from genus.generate.state import State

if TYPE_CHECKING:
    from genus.generate.engine import Engine


class Decoder(Protocol):
    """What a scheduler asks for tokens. One that keeps something for every row hears of rows that come and go.

    `spare`: positions that a step may write beyond those of the tokens that were asked for.
    """

    spare: int

    def join(self, sequences: Sequence_[Sequence]) -> None:
        """These are the new last rows; their first new token is chosen already."""

    def leave(self, row: int) -> None:
        """A row has left, and the last row has taken its place."""

    def step(self, engine: Engine, state: State, sequences: Sequence_[Sequence]) -> list[list[Choice]]:
        """New tokens of every row, at least one each.

        Before, the state holds of each row all visible tokens but the last; afterwards, all but the last that was chosen. No
        positions beyond those that the model has may be written.
        """


class Plain:
    """One token in every step."""

    spare = 0

    def join(self, sequences: Sequence_[Sequence]) -> None:
        pass

    def leave(self, row: int) -> None:
        pass

    def step(self, engine: Engine, state: State, sequences: Sequence_[Sequence]) -> list[list[Choice]]:
        logits = engine.read([[s.ids[-1]] for s in sequences], state)
        return [[choice] for choice in pick(logits, sequences)]
