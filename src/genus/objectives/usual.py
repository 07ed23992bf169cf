"""What a model of which nothing else is known learns."""

from __future__ import annotations

from genus.objectives.causal import Causal
from genus.objectives.masked import Masked
from genus.objectives.next_sentence import NextSentence
from genus.objectives.objective import Objective, sees
from genus.objectives.spans import Spans
from genus.parts.model import Model


def usual(model: Model) -> Objective:
    """The next token where only the past is seen, masked tokens where all of it is, spans of a source where there is one."""
    match sees(model):
        case "past":
            return Causal()
        case "all":
            return Masked(sentences=NextSentence() if getattr(model.head, "task", None) else None)
        case "source":
            return Spans()
