"""Where kernels in Triton run: on the processor by Triton's interpreter; on a GPU with TRITON_INTERPRET=0."""

from __future__ import annotations

import os

import pytest
import torch

pytest.importorskip("triton")


@pytest.fixture(scope="session")
def device() -> torch.device:
    if os.environ["TRITON_INTERPRET"] == "1":
        return torch.device("cpu")
    if not torch.cuda.is_available():
        pytest.skip("without Triton's interpreter its kernels need a GPU")
    return torch.device("cuda")
