"""Every probe by its name."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from genus.evaluate.probes.addition import addition, addition_reversed
from genus.evaluate.probes.grokking import grokking
from genus.evaluate.probes.induction import induction
from genus.evaluate.probes.position import context, position
from genus.evaluate.probes.reading import Subject
from genus.evaluate.probes.recall import recall
from genus.evaluate.probes.regression import regression
from genus.evaluate.probes.result import Kind, ProbeResult
from genus.evaluate.probes.shots import shots
from genus.spec import nearest


@dataclass(frozen=True)
class Probe:
    """A probe.

    Attributes:
        kind: "read" reads a trained model; "train" trains a small model of the same architecture on a synthetic task.
        needs: of those that read: "vocabulary", "text" or "labels". read, train: the probe itself; `train` takes
            (recipe, seconds, seed, updates).
    """

    name: str
    kind: Kind
    title: str
    citation: str
    needs: str = ""
    read: Callable[[Subject], ProbeResult] | None = None
    train: Callable[..., ProbeResult] | None = None


_PROBES = (
    Probe("induction", "read", "continues a random sequence seen once before", "Olsson et al. 2022", "vocabulary", induction),
    Probe("context", "read", "in-context-learning score: late loss less early loss", "Olsson et al. 2022", "text", context),
    Probe("position", "read", "loss by position in the context", "Kaplan et al. 2020, figure 7", "text", position),
    Probe("shots", "read", "few-shot slope on your labels", "Brown et al. 2020, figure 1.2", "labels", shots),
    Probe("recall", "train", "multi-query associative recall, beside the bytes of state", "Arora et al. 2023", train=recall),
    Probe("grokking", "train", "modular addition: the rule, after the examples", "Power et al. 2022", train=grokking),
    Probe("addition", "train", "addition of 1 to 4 digits", "Lee et al. 2024", train=addition),
    Probe("addition-reversed", "train", "addition, the last digit first", "Lee et al. 2024", train=addition_reversed),
    Probe("regression", "train", "in-context linear regression", "Garg et al. 2022", train=regression),
)
PROBES = {probe.name: probe for probe in _PROBES}


def find_probe(name: str) -> Probe:
    """The probe called `name`.

    Raises:
        ValueError: there is none; the message names the nearest.
    """
    if name not in PROBES:
        raise ValueError(f"there is no probe {name!r}{nearest(name, PROBES)}")
    return PROBES[name]


def parse(names: Iterable[str]) -> tuple[Probe, ...]:
    """Names, also several with commas between them, as probes in the order given, each once."""
    words = [word.strip() for name in names for word in name.split(",")]
    return tuple(dict.fromkeys(find_probe(word) for word in words if word))
