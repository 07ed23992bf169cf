"""Genus: from a folder of text to a trained, measured, exported model.

`import genus` costs milliseconds: the names below, and every subpackage (`genus.recipes`, `genus.train` ...), are
imported when they are first used.
"""

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0.dev0"

_WHERE = {
    "Spec": "genus.spec:Spec",
    "Tokenizer": "genus.modalities.text:Tokenizer",
    "recipe": "genus.recipes:make",
    "fit": "genus.recipes:fit",
    "Run": "genus.run:Run",
    "load": "genus.run:load",
    "Dataset": "genus.prepare.dataset:Dataset",
    "predict": "genus.tune.predict:predict",
}

if TYPE_CHECKING:
    from genus.modalities.text import Tokenizer as Tokenizer
    from genus.prepare.dataset import Dataset as Dataset
    from genus.recipes import fit as fit
    from genus.recipes import make as recipe  # noqa: F401
    from genus.run import Run as Run
    from genus.run import load as load
    from genus.spec import Spec as Spec
    from genus.tune.predict import predict as predict


def __getattr__(name: str) -> Any:
    if name in _WHERE:
        module, _, attribute = _WHERE[name].partition(":")
        value = getattr(import_module(module), attribute)
        globals()[name] = value
        return value
    if not name.startswith("_") and find_spec(f"genus.{name}"):
        return import_module(f"genus.{name}")
    raise AttributeError(f"module 'genus' has no attribute {name!r}")


def __dir__() -> list[str]:
    from pkgutil import iter_modules

    return sorted({"__version__", *_WHERE, *(module.name for module in iter_modules(__path__))} - {"__main__"})
