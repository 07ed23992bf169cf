"""What an installation needs and has."""

from importlib import metadata
from pathlib import Path

import pytest

from genus.doctor import packages
from genus.doctor.packages import DEVELOPMENT, Package, extras, needed

DECLARED = {
    "": ["torch>=2.11", "genus-none-such"],
    "data": ["packaging>=999", "zstandard"],
    "dev": ["ruff"],
}


def test_this_installation() -> None:
    core = {p.name: p for p in needed()}
    assert core["torch"].fits and core["torch"].wanted == ">=2.11"
    assert all(p.fits for p in core.values()), "the tests run, so nothing that is needed is missing"
    names = [extra.name for extra in extras()]
    assert "data" in names and not DEVELOPMENT & set(names) and "" not in names


def test_missing_and_too_old(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "_declared", lambda: DECLARED)
    assert [(p.name, p.fits) for p in needed()] == [("torch", True), ("genus-none-such", False)]
    (data,) = extras()
    assert data.packages[0] == Package("packaging", ">=999", metadata.version("packaging"), False)
    assert "packaging" in data.missing and data.command == "pip install 'genus[data]'"


def test_extras_of_extras(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "_declared", lambda: {"remote": ["packaging[far]>=1"]})
    monkeypatch.setattr(packages.metadata, "requires", lambda _: ['none-such>=2; extra == "far"', "other", 'no; extra == "near"'])
    (remote,) = extras()
    assert [(p.name, p.fits) for p in remote.packages] == [("packaging", True), ("none-such", False)]


def test_an_installed_package_says_it_itself(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where there is no checkout around the code."""
    monkeypatch.setattr(packages, "__file__", str(tmp_path / "a" / "b" / "c" / "packages.py"))
    told = ["torch>=2.11", 'zstandard; extra == "data"', 'ftfy>=6 ; python_version > "3" and extra == "data"']
    monkeypatch.setattr(packages.metadata, "requires", lambda _: told)
    assert {name: len(texts) for name, texts in packages._declared().items()} == {"": 1, "data": 2}

    def gone(_: str) -> list[str]:
        raise metadata.PackageNotFoundError

    monkeypatch.setattr(packages.metadata, "requires", gone)
    assert needed() == () and extras() == ()
