"""Settings that every test runs under, and the fixture for the corpora that do not live in the repository."""

import os
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

# Before anything imports torch or transformers. One thread for each worker, since pytest runs several workers; results
# then do not depend on the number of cores. Subprocesses inherit all of it.
os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["MPLBACKEND"] = "agg"
# Triton reads this when it is imported: its kernels then run on the processor, slowly. TRITON_INTERPRET=0 tests them on a GPU.
os.environ.setdefault("TRITON_INTERPRET", "1")

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(autouse=True)
def _seeded() -> Iterator[None]:
    """Every test starts from the same random state, without importing what it does not use."""
    random.seed(0)
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed(0)
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)
        sys.modules["torch"].set_num_threads(1)
    yield


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real corpora and checkpoints: $GENUS_DATA, else ../shared/data beside the repository."""
    folder = Path(os.environ.get("GENUS_DATA", REPOSITORY.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no corpora at {folder}: set GENUS_DATA to the folder that holds them")
    return folder


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Any]:
    """A headless Chromium (see browser.py)."""
    from .browser import Browser, find

    if find() is None:
        pytest.skip("no Chromium on this machine")
    window = Browser(tmp_path / "profile")
    try:
        yield window
    finally:
        window.close()
