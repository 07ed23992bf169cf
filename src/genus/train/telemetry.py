"""What a run tells the world: a progress line, `metrics.jsonl`, TensorBoard events."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable
from typing import Any, TextIO

from genus.run import Run

PLAIN_EVERY = 10.0  # seconds between lines when the output is not a terminal
EVENTS = "events"


class Telemetry:
    """Writes records of a run and shows where it stands.

    Args:
        bytes_per_token: of the training data; turns nats per token into bits per byte. None = the loss has no such meaning.
        ceiling: measured matrix-product speed in operations per second; flops: operations of one training token.
    """

    def __init__(
        self,
        run: Run,
        bytes_per_token: float | None,
        ceiling: float,
        flops: float,
        out: TextIO | None = None,
        quiet: bool = False,
    ) -> None:
        self.run = run
        self.bytes_per_token = bytes_per_token
        self.ceiling, self.flops = ceiling, flops
        self.out = out or sys.stderr
        self.quiet = quiet
        self.live = self.out.isatty()
        self.shown = -math.inf
        self.width = 0
        self.board = None if quiet else _tensorboard(run)

    def training(self, record: dict[str, Any], progress: float, remaining: float) -> None:
        """Log one line of training and refresh the progress line. `remaining` in seconds."""
        if self.bytes_per_token is not None:
            record["bpb"] = record["loss"] / math.log(2) / self.bytes_per_token
        record["mfu"] = record["tokens_per_s"] * self.flops / self.ceiling
        self._write(record, "train")
        self.line(
            f"step {record['step']:,}  {100 * progress:3.0f} %  {'  '.join(figures(record))}  "
            f"{record['tokens_per_s']:,.0f} tokens/s  {100 * record['mfu']:.0f} % of matmul ceiling  "
            f"{clock(remaining)} left"
        )

    def evaluation(self, record: dict[str, Any]) -> None:
        """Log one evaluation and say it on a line of its own."""
        self._write({"kind": "eval", **record}, record["split"])
        self.say(f"step {record['step']:,}: {record['split']} {', '.join(figures(record))}")

    def event(self, step: int, message: str) -> None:
        """Log something the user should know, and say it."""
        self.run.log({"kind": "event", "step": step, "message": message})
        self.say(f"step {step:,}: {message}")

    def line(self, text: str, force: bool = False) -> None:
        """The line that updates on a terminal; a plain line now and then elsewhere."""
        if self.quiet:
            return
        now = time.monotonic()
        if self.live:
            self.out.write("\r" + text.ljust(self.width))
            self.width = len(text)
        elif force or now - self.shown >= PLAIN_EVERY:
            self.out.write(text + "\n")
            self.shown = now
        self.out.flush()

    def say(self, text: str) -> None:
        """A line that stays."""
        if self.quiet:
            return
        if self.live and self.width:
            self.out.write("\r" + " " * self.width + "\r")
            self.width = 0
        self.out.write(text + "\n")
        self.out.flush()

    def close(self) -> None:
        if self.board is not None:
            self.board.close()

    def _write(self, record: dict[str, Any], group: str) -> None:
        self.run.log(record)
        if self.board is not None:
            for key, value in record.items():
                if isinstance(value, float) and key != "seconds":
                    self.board.add_scalar(f"{group}/{key}", value, record["step"])


def figures(record: dict[str, Any]) -> list[str]:
    """What a record tells, for people: `loss 2.1034`, `1.4417 bits/byte`, `accuracy 31.2 %`."""
    told = []
    for name, value in record.items():
        if name == "bpb":
            told.append(f"{value:.4f} bits/byte")
        elif name.endswith("loss"):
            told.append(f"{name.replace('_', ' ')} {value:.4f}")
        elif name.endswith("accuracy"):
            told.append(f"{name.replace('_', ' ')} {100 * value:.1f} %")
    return told


def clock(seconds: float) -> str:
    """`1:02:03`, `2:03` or `45 s`."""
    seconds = max(0, round(seconds))
    if seconds < 60:
        return f"{seconds} s"
    hours, rest = divmod(seconds, 3600)
    return f"{hours}:{rest // 60:02}:{rest % 60:02}" if hours else f"{rest // 60}:{rest % 60:02}"


def _tensorboard(run: Run) -> Any:
    """A TensorBoard writer where the extra `track` is installed, else None."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    make: Callable[..., Any] = SummaryWriter
    return make(str(run.path / EVENTS))
