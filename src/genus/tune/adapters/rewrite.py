"""The rewrite of a module tree that adds changes of matrices, and the ways back: merged into the weights, or taken off.

Every `Linear` is replaced by an `AdaptedLinear`. A matrix that a module uses in another way (the gates of a recurrence, a token
table, the read-out) is replaced, through torch's parametrisation, by its sum with the change, or by itself with some rows that
learn. Names of the model's own parameters stay as they are in the first case, and come back with `detach` in the second.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn
from torch.nn.utils import parametrize

from genus.parts.linear import Linear
from genus.tune.adapters.low_rank import AdaptedLinear, LowRank
from genus.tune.adapters.targets import matrices
from genus.tune.adapters.token_rows import TokenRows

Change = LowRank | TokenRows


def attach(model: nn.Module, changes: Mapping[str, Change]) -> None:
    """Put changes on the matrices of these names (see `targets.matrices`), in place; everything else is frozen.

    A matrix that is shared is changed once.

    Raises:
        ValueError: the model has changes already, or no matrix of that name, or rows are to learn of what is no table.
    """
    if _changes(model):
        raise ValueError("this model is adapted already; merge and detach its adapter first")
    known = matrices(model)
    model.requires_grad_(False)
    for name, change in changes.items():
        if name not in known:
            raise ValueError(f"the model has no matrix {name!r}")
        linears: dict[int, AdaptedLinear] = {}
        for owner, key in known[name].owners:
            if type(owner) is not Linear:
                parametrize.register_parametrization(owner, key, change, unsafe=True)
            elif isinstance(change, LowRank):
                linears[id(owner)] = AdaptedLinear(owner, change)
            else:
                raise ValueError(f"{name!r} has no row for each token")
        _replace(model, linears)


def adapted(model: nn.Module) -> dict[str, tuple[nn.Parameter, LowRank]]:
    """Every matrix that has a low-rank change, by name: its own weight, and the change."""
    return {name: (weight, change) for name, weight, change in _changes(model) if isinstance(change, LowRank)}


def learning_rows(model: nn.Module) -> dict[str, tuple[nn.Parameter, TokenRows]]:
    """Every table some of whose rows learn, by name: its own weight, and the rows."""
    return {name: (weight, change) for name, weight, change in _changes(model) if isinstance(change, TokenRows)}


def _changes(model: nn.Module) -> list[tuple[str, nn.Parameter, Change]]:
    found: dict[int, tuple[str, nn.Parameter, Change]] = {}
    for path, module in model.named_modules():
        if isinstance(module, AdaptedLinear):
            found.setdefault(id(module.change), (path, module.weight, module.change))
        elif parametrize.is_parametrized(module):
            for key, chain in module.parametrizations.items():  # type: ignore[operator, union-attr]
                if isinstance(chain[0], Change):
                    name = ".".join(filter(None, (path, "" if key == "weight" else key)))
                    found.setdefault(id(chain[0]), (name, chain.original, chain[0]))
    return list(found.values())


def merge(model: nn.Module) -> None:
    """Write every change into its matrix, in place; what the model computes stays the same, at the speed it had before."""
    for _, weight, change in _changes(model):
        change.merge(weight)


def unmerge(model: nn.Module) -> None:
    """Undo `merge`, bit for bit."""
    for _, weight, change in _changes(model):
        change.unmerge(weight)


def detach(model: nn.Module) -> None:
    """Take all changes off, in place, and let every parameter learn again.

    What was merged stays in the weights; what was not is gone.
    """
    for module in list(model.modules()):
        if parametrize.is_parametrized(module):
            for key, chain in list(module.parametrizations.items()):  # type: ignore[operator, union-attr]
                if isinstance(chain[0], Change):
                    parametrize.remove_parametrizations(module, key, leave_parametrized=False)
    _replace(model, {id(m): m.plain() for m in model.modules() if isinstance(m, AdaptedLinear)})
    model.requires_grad_(True)


def _replace(model: nn.Module, new: Mapping[int, nn.Module]) -> None:
    """Put modules in the place of those with these ids, wherever they stand."""
    for parent in list(model.modules()):
        for name, child in parent._modules.items():
            if id(child) in new:
                parent._modules[name] = new[id(child)]
