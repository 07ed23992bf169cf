"""Packages: what Genus needs, what each extra would add, and which of it is there. The installation itself says what."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

NAME = "genus"
DEVELOPMENT = frozenset({"test", "dev", "bench", "oracles"})  # extras that no command uses


@dataclass(frozen=True)
class Package:
    """Attributes:
    name: of the distribution. wanted: which versions, such as ">=2.11"; "" = any. version: of the one installed; None = there
        is none. fits: whether it is there and new enough.
    """

    name: str
    wanted: str
    version: str | None
    fits: bool


@dataclass(frozen=True)
class Extra:
    """An extra of Genus and its packages."""

    name: str
    packages: tuple[Package, ...]

    @property
    def missing(self) -> tuple[str, ...]:
        """Names of those that are not there, or too old."""
        return tuple(p.name for p in self.packages if not p.fits)

    @property
    def command(self) -> str:
        """What installs them."""
        return f"pip install '{NAME}[{self.name}]'"


def needed() -> tuple[Package, ...]:
    """What nothing works without."""
    return tuple(_packages(_declared().get("", ())))


def extras() -> tuple[Extra, ...]:
    """What commands can use when it is there, by extra."""
    declared = _declared()
    return tuple(Extra(name, tuple(_packages(declared[name]))) for name in sorted(declared) if name and name not in DEVELOPMENT)


def _declared() -> dict[str, list[str]]:
    """Requirements by extra, "" being none: of the checkout that this code lies in, or else of the installed package."""
    checkout = Path(__file__).resolve().parents[3] / "pyproject.toml"
    if checkout.is_file():
        project = tomllib.loads(checkout.read_text(encoding="utf-8"))["project"]
        if project["name"] == NAME:
            return {"": project["dependencies"], **project["optional-dependencies"]}
    found: dict[str, list[str]] = {"": []}
    for text in _requirements():
        requirement = Requirement(text)
        marker = str(requirement.marker or "")
        extra = marker.rpartition("extra == ")[2].strip("\"'") if "extra == " in marker else ""
        found.setdefault(extra, []).append(text)
    return found


def _requirements() -> list[str]:
    try:
        return metadata.requires(NAME) or []
    except metadata.PackageNotFoundError:  # the sources alone, on the path
        return []


def _packages(requirements: list[str] | tuple[str, ...]) -> Iterator[Package]:
    for text in requirements:
        requirement = Requirement(text)
        if requirement.name == NAME:
            continue
        try:
            version = metadata.version(requirement.name)
        except metadata.PackageNotFoundError:
            version = None
        fits = version is not None and requirement.specifier.contains(version, prereleases=True)
        yield Package(requirement.name, str(requirement.specifier), version, fits)
        if version is not None and requirement.extras:
            yield from _packages(_of_extras(requirement))


def _of_extras(requirement: Requirement) -> list[str]:
    """What the extras that are asked for of an installed package need, as in `fsspec[s3]`."""
    found = []
    for text in metadata.requires(requirement.name) or []:
        needs = Requirement(text)
        marker = needs.marker
        if marker and not marker.evaluate({"extra": ""}) and any(marker.evaluate({"extra": e}) for e in requirement.extras):
            needs.marker = None
            found.append(str(needs))
    return found
