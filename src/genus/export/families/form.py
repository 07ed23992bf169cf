"""Form: what stands on top of a family's layers in one class of transformers, as data.

A class is a family and a form: `Bert` + `ForTokenClassification`. Every class's head has names of its own, but there are few
kinds: the vocabulary, a row of outputs for a text, a row for each of its positions, the vectors themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from genus.export.families.config import Config
from genus.export.rules import Rule, pair
from genus.parts.task_head import Pool, TaskHead, Vectors

SEQUENCE, TOKENS, ANSWERS = "ForSequenceClassification", "ForTokenClassification", "ForQuestionAnswering"
DEFAULT_RATE = 0.1  # transformers' dropout before a classifier where no key says otherwise


def _unchanged(config: Config, head: Any) -> Any:
    return head


def _nothing(head: Any) -> dict[str, Any]:
    return {}


@dataclass(frozen=True)
class Form:
    """One class of a family.

    Attributes:
        suffix: of the class's name, after the family's.
        rules: names of the head's tensors.
        head: config.json and the recipe's own head -> the head. config: that head -> the keys that say so.
        auto: suffix of the Auto class, where it is another one.
        prefix: of the names of the layers, where it is not the family's.
        ignore: patterns of tensors that may be left over.
        named, needs: files that name the class `named` are read in this form if they hold the tensors `needs`.
    """

    suffix: str
    rules: tuple[Rule, ...] = ()
    head: Callable[[Config, Any], Any] = _unchanged
    config: Callable[[Any], dict[str, Any]] = _nothing
    auto: str | None = None
    prefix: str | None = None
    ignore: tuple[str, ...] = ()
    named: str = ""
    needs: tuple[str, ...] = ()


def outputs_of(config: Mapping[str, Any]) -> int:
    """Number of outputs that config.json gives a task's head."""
    names = config.get("id2label")
    return len(names) if names else int(config.get("num_labels") or 2)


def numbered(outputs: int) -> dict[str, Any]:
    """Keys that say how many outputs there are, for want of names as transformers calls them."""
    return labelled([f"LABEL_{i}" for i in range(outputs)])


def labelled(names: list[str]) -> dict[str, Any]:
    """Keys that name the outputs."""
    return {"id2label": {str(i): name for i, name in enumerate(names)}, "label2id": {name: i for i, name in enumerate(names)}}


def _rate(config: Config, keys: tuple[str, ...]) -> float:
    return float(next((config[k] for k in keys if config.get(k) is not None), DEFAULT_RATE)) if keys else 0.0


def _of_task(
    suffix: str,
    rules: list[Rule],
    layout: TaskHead,
    dropout: tuple[str, ...],
    before: tuple[str, ...] = (),
    **more: Any,
) -> Form:
    """`dropout`, `before`: config keys of the head's two rates, the first that is set counts."""
    answers = suffix == ANSWERS

    def head(config: Config, _: Any) -> TaskHead:
        outputs = 2 if answers else outputs_of(config)
        return layout.replace(outputs=outputs, dropout=_rate(config, dropout), before=_rate(config, before))

    def config(head: Any) -> dict[str, Any]:
        if not isinstance(head, TaskHead):
            raise ValueError("a model for a task has the head of a task")
        rates = {keys[0]: rate for keys, rate in ((before, head.before), (dropout, head.dropout)) if keys}
        # tied: without a read-out of the vocabulary there is nothing to tie but T5's two copies of its table
        return ({} if answers else numbered(head.outputs)) | {"tie_word_embeddings": True} | rates

    return Form(suffix, tuple(rules), head, config, **more)


def sequence(
    classifier: str,
    pool: Pool,
    dense: str = "",
    bias: bool = True,
    dropout: tuple[str, ...] = (),
    before: tuple[str, ...] = (),
    **more: Any,
) -> Form:
    """A row of outputs for a text. `classifier`, `dense`: what the read-out and the pool's layer are called."""
    rules = [*pair(classifier, "head.proj"), *(pair(dense, "head.pool.proj") if dense else [])]
    return _of_task(SEQUENCE, rules, TaskHead(pool=pool, bias=bias), dropout, before, **more)


def tokens(classifier: str, dropout: tuple[str, ...] = (), **more: Any) -> Form:
    """A row of outputs for every position."""
    return _of_task(TOKENS, pair(classifier, "head.proj"), TaskHead(pool=None), dropout, **more)


def answers(dropout: tuple[str, ...] = (), **more: Any) -> Form:
    """Two outputs for every position: whether the answer begins, and whether it ends there."""
    return _of_task(ANSWERS, pair("qa_outputs", "head.proj"), TaskHead(pool=None), dropout, **more)


def vectors(dense: str = "", suffix: str = "Model", auto: str = "", prefix: str = "") -> tuple[Form, ...]:
    """The bare model; with `dense`, the pool's layer, both for files that hold it and for files that do not."""
    bare = Form(suffix, head=lambda c, h: Vectors(), auto=auto, prefix=prefix)
    if not dense:
        return (bare,)
    pooled = Form(
        suffix,
        tuple(pair(dense, "head.pool.proj")),
        lambda c, h: Vectors(Pool()),
        auto=auto,
        prefix=prefix,
        needs=(f"{dense}.weight",),
    )
    return pooled, bare
