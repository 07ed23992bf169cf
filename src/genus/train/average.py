"""The mean of the weights at several points near the end of a run (Vaswani et al. 2017, section 6.1; Polyak & Juditsky 1992).

The last `count` of the points that lie every 2 % of the run are kept as files, and no others, so that disk and memory are bounded
and a run that goes on after a kill finds those before it. They are removed when the model is written.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from genus.train import checkpoint

SPACING = 0.02  # of the run: Vaswani's last 5 of checkpoints 10 minutes apart, in 12 hours, are 0.014 apart
FOLDER = "average"  # among the checkpoints


class Average:
    """Snapshots of a run's weights.

    Args:
        checkpoints: the run's folder for them. count: how many points, the end of the run being the last.
    """

    def __init__(self, checkpoints: Path, count: int) -> None:
        if count * SPACING > 0.5:
            raise ValueError(f"--average {count}: at most {int(0.5 / SPACING)} points, which reach back to the middle of the run")
        self.folder, self.count = checkpoints / FOLDER, count

    def due(self, before: float, now: float) -> bool:
        """Whether a point lies in (before, now], shares of the run. The end itself is taken by `apply`."""
        points = (1 - i * SPACING for i in range(1, self.count))
        return now < 1 and any(before < point <= now for point in points)

    def take(self, step: int, model: nn.Module) -> None:
        """Keep the weights as they are."""
        self.folder.mkdir(parents=True, exist_ok=True)
        checkpoint.save_weights(self.folder / f"step-{step}.safetensors", model)

    def forget_after(self, step: int) -> None:
        """Drop what a run that goes on from `step` will come to again."""
        for number, file in self._files():
            if number > step:
                file.unlink()

    @torch.no_grad()
    def apply(self, model: nn.Module) -> list[int]:
        """Put the mean of the points and of the weights as they are into the model. Returns the updates of the points."""
        files = self._files()
        own: dict[str, Tensor] = dict(checkpoint.own_tensors(model))
        total = {name: tensor.double() for name, tensor in own.items()}
        for _, file in files:
            for name, tensor in load_file(file).items():
                total[name] += tensor.to(total[name].device)
        for name, tensor in own.items():
            tensor.copy_(total[name] / (len(files) + 1))
        return [number for number, _ in files]

    def clear(self) -> None:
        """Remove the files."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _files(self) -> list[tuple[int, Path]]:
        return sorted((int(file.stem.removeprefix("step-")), file) for file in self.folder.glob("step-*.safetensors"))
