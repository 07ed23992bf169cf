"""Names: what Hugging Face calls the parameters of a model, adapted or not."""

from __future__ import annotations

import re
from typing import Any, cast

from torch import nn

from genus.export import families
from genus.export.huggingface import CONTEXT
from genus.export.mapping import PREFIX
from genus.export.rules import Bound, bind, heads_of
from genus.parts.model import Model
from genus.tune.adapters.rewrite import adapted, learning_rows
from genus.tune.adapters.targets import TABLES


class Names:
    """Both sides' names of the parameters that a model has without its changes.

    Attributes:
        params: by our names, tied ones under each. rules: which of theirs holds which of ours. heads: of attention.
        known: names of their tensors and of the modules that own them. tied: of modules that share a matrix.
        architecture: the class in transformers; None = there is none.
    """

    def __init__(self, model: nn.Module, problem: str | None = None) -> None:
        spec: Any = model.spec
        self.model, self.spec = model, cast(Model, spec)
        changes = [*adapted(model).values(), *learning_rows(model).values()]
        added = {id(p) for _, change in changes for p in change.parameters()}
        state = model.state_dict(keep_vars=True)
        plain = {re.sub(r"\.parametrizations\.(\w+)\.original$", r".\1", n): p for n, p in state.items() if id(p) not in added}
        self.params: dict[str, nn.Parameter] = {n: p for n, p in plain.items() if isinstance(p, nn.Parameter)}
        match = families.match(self.spec, self.spec.context or CONTEXT, problem)
        self.architecture = match[0].name if match else None
        self.prefix, self.usual = (match[0].prefix, match[0].family.prefix) if match else ("", "")
        self.renames = match[0].renames if match else ()
        self.rules = bind(match[0].rules, self.params) if match else [Bound(PREFIX + n, (n,), "same", False) for n in self.params]
        self.known = {n for r in self.rules for n in (r.theirs, module_of(r.theirs))}
        self.heads = heads_of(self.spec)
        owners: dict[int, set[str]] = {}
        for rule in self.rules:
            if not rule.read_only and len(rule.ours) == 1:
                owners.setdefault(id(self.params[rule.ours[0]]), set()).add(module_of(rule.theirs))
        self.tied = {module for modules in owners.values() if len(modules) > 1 for module in modules}

    def settled(self, name: str) -> str:
        """A name of theirs as the rules spell it: older spellings, and the layers' prefix where an adapter lacks it or has it."""
        for pattern, replacement in self.renames:
            name = re.sub(pattern, replacement, name)
        candidates = (name, self.prefix + name, name.removeprefix(self.usual))
        return next((n for n in candidates if n in self.known), name)

    def is_table(self, name: str) -> bool:
        """Whether a parameter of ours is looked up by rows."""
        return isinstance(self.model.get_submodule(name.rpartition(".")[0]), TABLES)


def module_of(name: str) -> str:
    """The module that owns a tensor; a matrix that is not called `weight` counts as one."""
    return re.sub(r"\.(weight|bias)$", "", name)
