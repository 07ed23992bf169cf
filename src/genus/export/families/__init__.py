"""Every `model_type` of Hugging Face transformers that is read and written as itself."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

from genus.export.families import albert, bert, distilbert, gpt, llama, roberta, t5
from genus.export.families.canonical import canonical
from genus.export.families.config import Config
from genus.export.families.family import Architecture, Family
from genus.export.families.form import ANSWERS, SEQUENCE
from genus.parts.model import Model
from genus.parts.task_head import Pool
from genus.spec import nearest

if TYPE_CHECKING:
    from genus.modalities.text import Tokenizer

FAMILIES: tuple[Family, ...] = (
    *gpt.FAMILIES,
    *llama.FAMILIES,
    *bert.FAMILIES,
    *roberta.FAMILIES,
    *albert.FAMILIES,
    *distilbert.FAMILIES,
    *t5.FAMILIES,
)

__all__ = ["FAMILIES", "Architecture", "Family", "canonical", "find", "match", "of_type", "text_pool"]


def of_type(kind: Any) -> list[Family]:
    """The families of a `model_type`.

    Raises:
        ValueError: there is none.
    """
    found = [f for f in FAMILIES if f.model_type == kind]
    if not found:
        known = {f.model_type for f in FAMILIES} | {"genus"}
        raise ValueError(f"config.json: model_type {kind!r} is not known here{nearest(str(kind), known)}")
    return found


def find(config: Mapping[str, Any], tensors: Collection[str] | None = None) -> Architecture:
    """The class that reads this config.json.

    Args:
        tensors: names in the weights file. Some files hold more than the class they name (both heads that BERT was trained
            with), or less (no pooler): their tensors decide.

    Raises:
        ValueError: there is none, or the config asks for something that is not built here.
    """
    families = of_type(config.get("model_type"))
    named = (config.get("architectures") or [None])[0]
    known = {a.name for f in families for a in f.architectures}
    candidates = [a for f in families for a in _called(f, named if named in known else f.architectures[0].name, tensors)]
    for architecture in candidates[:-1]:
        try:
            architecture.read(config)
        except ValueError:
            continue
        return architecture
    return candidates[-1]


def _called(family: Family, name: str, tensors: Collection[str] | None) -> list[Architecture]:
    """The forms in which a family reads files that name this class, the fitting ones first."""
    own = [a for a in family.architectures if a.name == name]
    if tensors is None:
        return own
    held = {*tensors, *(family.prefix + tensor for tensor in tensors)}
    wider = [a for a in family.architectures if a.form.named and family.stem + a.form.named == name]
    return [a for a in wider + own if a in own[-1:] or held.issuperset(a.form.needs)]


def match(
    spec: Model,
    context: int,
    problem: str | None = None,
    tokenizer: Tokenizer | None = None,
) -> tuple[Architecture, dict[str, Any]] | None:
    """The class that expresses this model exactly, and its config.json; None when no class does.

    Args:
        problem: what a task's head is for: "question_answering" tells two outputs for every position, where an answer begins
            and ends, from two tags.
        tokenizer: a class that counts positions by the id of the padding token (RoBERTa) needs one with that id.
    """
    for family in FAMILIES:
        for architecture in family.architectures:
            if (architecture.form.suffix == ANSWERS) == (problem == "question_answering"):
                config = architecture.write(spec, context)
                if config is not None and _pads_alike(config, tokenizer):
                    return architecture, config
    return None


def text_pool(spec: Model) -> Pool | None:
    """How the family of these layers sums up a text for a task (BERT through a tanh, DistilBERT a ReLU); None = no family.

    A model that is tuned with this pool is written as that family's class.
    """
    for family in FAMILIES:
        for architecture in family.architectures:
            if architecture.form.suffix == SEQUENCE:
                head = architecture.form.head(Config(), None)
                if architecture.write(spec.replace(head=head), spec.context or 1) is not None:
                    return head.pool  # type: ignore[no-any-return]
    return None


def _pads_alike(config: Mapping[str, Any], tokenizer: Tokenizer | None) -> bool:
    return tokenizer is None or "pad_token_id" not in config or config["pad_token_id"] == tokenizer.role("pad")
