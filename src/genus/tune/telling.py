"""What a fit tells the world while it runs: one line that changes on a terminal, and a line in `metrics.jsonl`."""

from __future__ import annotations

import sys
import time
from typing import Any

from genus.run import Run
from genus.train.telemetry import PLAIN_EVERY, Telemetry, clock


class Teller(Telemetry):
    """Telemetry of a fit, in labels and scores instead of tokens and bits.

    Args:
        name: what stands before each line, such as "seed 0". primary: the score to show.
    """

    def __init__(self, run: Run, name: str, primary: str, quiet: bool = False) -> None:
        super().__init__(run, 1.0, 1.0, 0.0, sys.stderr, quiet=True)
        self.hushed, self.name, self.primary = quiet, name, primary
        self.began = time.monotonic()
        self.score = ""

    def training(self, record: dict[str, Any], progress: float, remaining: float) -> None:
        """Log one line of training and refresh the progress line."""
        record = {k: v for k, v in record.items() if k != "tokens"} | {"labels": record["tokens"]}
        record["labels_per_s"] = record.pop("tokens_per_s")
        self.run.log(record)
        self._show(
            f"{self.name}: {100 * progress:3.0f} %, update {record['step']:,}, loss {record['loss']:.4f}{self.score}, "
            f"{record['labels_per_s']:,.0f} labels/s, {clock(remaining)} left"
        )

    def evaluation(self, record: dict[str, Any]) -> None:
        """Log one evaluation; its score stays in the progress line."""
        self.run.log({"kind": "eval", **record})
        self.score = f", validation {self.primary} {record[self.primary]:.3f}" if self.primary in record else ""

    def event(self, step: int, message: str) -> None:
        """Log something the user should know."""
        self.run.log({"kind": "event", "step": step, "message": message})

    def close(self) -> None:
        """Take the changing line away."""
        if self.live and self.width and not self.hushed:
            self.out.write("\r" + " " * self.width + "\r")
            self.out.flush()
        super().close()

    def _show(self, text: str) -> None:
        if self.hushed:
            return
        now = time.monotonic()
        if self.live:
            self.out.write("\r" + text.ljust(self.width))
            self.width = len(text)
        elif now - max(self.shown, self.began) >= PLAIN_EVERY:
            self.out.write(text + "\n")
            self.shown = now
        self.out.flush()
