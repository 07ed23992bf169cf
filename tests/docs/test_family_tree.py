"""The generated parts of the documents are up to date, and the drawing shows every system."""

import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from genus import recipes

ROOT = Path(__file__).resolve().parents[2]


def test_up_to_date() -> None:
    done = subprocess.run([sys.executable, "-m", "scripts.family_tree", "--check"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", ["family-tree.svg", "family-tree.zh.svg"])
def test_drawing(name: str) -> None:
    root = ET.parse(ROOT / "docs" / name).getroot()
    space = {"svg": "http://www.w3.org/2000/svg"}
    width, height = float(root.get("width")), float(root.get("height"))
    texts = {t.text for t in root.iterfind(".//svg:text", space)}
    assert set(recipes.names()) <= texts
    boxes = [tuple(float(r.get(k)) for k in ("x", "y", "width", "height")) for r in root.iterfind(".//svg:g/svg:rect", space)]
    assert len(boxes) > len(recipes.names())
    for i, (x, y, w, h) in enumerate(boxes):
        assert x >= 0 and x + w <= width and y >= 0 and y + h <= height
        assert not any(x < a + c and a < x + w and y < b + d and b < y + h for a, b, c, d in boxes[:i]), "boxes overlap"
