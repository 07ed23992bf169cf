"""Where kernels in Triton run: on the processor by Triton's interpreter; on a GPU with TRITON_INTERPRET=0."""

from __future__ import annotations

import os
from dataclasses import dataclass
from importlib.metadata import version

import pytest
import torch
from packaging.version import Version
from torch import Tensor


@pytest.fixture(scope="session")
def device() -> torch.device:
    if os.environ["TRITON_INTERPRET"] == "1":
        if Version(version("triton")) < Version("3.7") and Version(version("numpy")) >= Version("2.4"):
            pytest.skip("the interpreter of Triton 3.6 cannot count loops with NumPy 2.4 and later")
        return torch.device("cpu")
    if not torch.cuda.is_available():
        pytest.skip("without Triton's interpreter its kernels need a GPU")
    return torch.device("cuda")


@dataclass
class Context:
    """What an autograd function is given, where there is no graph."""

    needs_input_grad: list[bool]
    saved_tensors: tuple[Tensor | None, ...] = ()

    def save_for_backward(self, *tensors: Tensor | None) -> None:
        self.saved_tensors = tensors
