"""Whether this environment meets a component's ``packages_to_install`` (PEP 508). It installs nothing."""

from __future__ import annotations

import re
from importlib.metadata import PackageNotFoundError, version


def unmet(requirements: tuple[str, ...]) -> list[str]:
    """The requirements that no installed distribution meets, in order."""
    return [requirement for requirement in requirements if not _is_met(requirement)]


def _is_met(requirement: str) -> bool:
    try:
        from packaging.requirements import InvalidRequirement, Requirement
    except ImportError:
        name = re.match(r"[A-Za-z0-9._-]+", requirement)
        return name is not None and _installed(name[0]) is not None
    try:
        parsed = Requirement(requirement)
    except InvalidRequirement:
        return False
    if parsed.marker is not None and not parsed.marker.evaluate():
        return True
    found = _installed(parsed.name)
    return found is not None and parsed.specifier.contains(found, prereleases=True)


def _installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
