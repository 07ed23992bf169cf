"""Probes of emergence and in-context learning.

Two kinds. Those that *read* take a trained model and ask what it does: nothing is trained. Those that *train* ask what an
architecture can learn: a small model of the same recipe is trained from nothing on a synthetic task.
"""

from genus.evaluate.probes.registry import PROBES, Probe, find_probe
from genus.evaluate.probes.result import Curve, ProbeResult
from genus.evaluate.probes.runner import probe_score, run
from genus.evaluate.probes.sharpness import Sharpness, sharpness

__all__ = ["PROBES", "Curve", "Probe", "ProbeResult", "Sharpness", "find_probe", "probe_score", "run", "sharpness"]
