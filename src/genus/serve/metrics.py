"""What a server counts and times, in the text form that Prometheus reads (exposition format 0.0.4)."""

from __future__ import annotations

import os
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

Labels = tuple[tuple[str, str], ...]


@dataclass
class Histogram:
    """How often a time fell into each bucket."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(SECONDS) + 1))
    total: float = 0.0

    def add(self, seconds: float) -> None:
        self.counts[bisect_left(SECONDS, seconds)] += 1
        self.total += seconds


class Metrics:
    """Counters of one server."""

    def __init__(self) -> None:
        self.begun = time.time()
        self.in_flight = 0
        self._counters: Counter[tuple[str, Labels]] = Counter()
        self._times: dict[tuple[str, Labels], Histogram] = {}

    def count(self, name: str, number: float = 1, **labels: str) -> None:
        """Add to the counter genus_NAME_total."""
        self._counters[name, tuple(sorted(labels.items()))] += number  # type: ignore[assignment]

    def time(self, name: str, seconds: float, **labels: str) -> None:
        """Add to the histogram genus_NAME_seconds."""
        self._times.setdefault((name, tuple(sorted(labels.items()))), Histogram()).add(seconds)

    def render(self, gauges: Mapping[str, Mapping[Labels, float]]) -> str:
        """All of it, with gauges that are read now: name, labels, value."""
        now: dict[str, Mapping[Labels, float]] = {
            "process_resident_memory_bytes": {(): resident_bytes()},
            "process_start_time_seconds": {(): self.begun},
            "genus_requests_in_flight": {(): self.in_flight},
            **gauges,
        }
        return "\n".join([*_counters(self._counters), *_histograms(self._times), *_gauges(now)]) + "\n"


def _counters(counters: Mapping[tuple[str, Labels], float]) -> Iterator[str]:
    last = ""
    for (name, labels), value in sorted(counters.items()):
        if name != last:
            yield f"# TYPE genus_{name}_total counter"
            last = name
        yield f"genus_{name}_total{_labels(labels)} {value:g}"


def _histograms(times: Mapping[tuple[str, Labels], Histogram]) -> Iterator[str]:
    last = ""
    for (name, labels), each in sorted(times.items(), key=lambda item: item[0]):
        if name != last:
            yield f"# TYPE genus_{name}_seconds histogram"
            last = name
        total = 0
        for bound, count in zip((*map(str, SECONDS), "+Inf"), each.counts):
            total += count
            yield f"genus_{name}_seconds_bucket{_labels((*labels, ('le', bound)))} {total}"
        yield f"genus_{name}_seconds_sum{_labels(labels)} {each.total:.6f}"
        yield f"genus_{name}_seconds_count{_labels(labels)} {total}"


def _gauges(gauges: Mapping[str, Mapping[Labels, Any]]) -> Iterator[str]:
    for name, values in gauges.items():
        if values:
            yield f"# TYPE {name} gauge"
        for labels, value in values.items():
            yield f"{name}{_labels(labels)} {float(value):.10g}"


def _labels(labels: Labels) -> str:
    inside = ",".join(f'{name}="{_escaped(value)}"' for name, value in labels)
    return f"{{{inside}}}" if inside else ""


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def resident_bytes() -> int:
    """Memory that this process has now; at most so far, where the system does not say."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
