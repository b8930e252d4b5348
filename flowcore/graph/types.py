"""The types of ports, as plain data: parameter types by name and arguments, artifact types by schema title."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

SCALARS = ("str", "int", "float", "bool")
NAMES = (*SCALARS, "list", "dict", "any")


@dataclass(frozen=True, slots=True)
class ParameterType:
    """``name`` is one of NAMES; ``items`` are element types (list: one, dict: key and value).

    "any" is the type of what no author declared, such as a sub-item of a loop; its values are checked where they arrive.
    """

    name: str
    items: tuple[ParameterType, ...] = ()
    optional: bool = False

    def __str__(self) -> str:
        inner = self.name
        if self.items:
            inner = f"{self.name.capitalize()}[{', '.join(map(str, self.items))}]"
        return f"Optional[{inner}]" if self.optional else inner

    def to_json(self) -> Any:
        if not self.items and not self.optional:
            return self.name
        return {"name": self.name, "items": [item.to_json() for item in self.items], "optional": self.optional}

    @classmethod
    def from_json(cls, data: Any) -> ParameterType:
        """The inverse of ``to_json``.

        Raises:
            ValueError, KeyError, TypeError: there is no such type.
        """
        if isinstance(data, str):
            found = cls(data)
        else:
            found = cls(data["name"], tuple(cls.from_json(item) for item in data["items"]), data["optional"])
        arity = {"list": (0, 1), "dict": (0, 2)}.get(found.name, (0,))
        key = found.items[0] if found.name == "dict" and found.items else None
        plain_key = key is None or (key.name in SCALARS and not key.optional)
        if found.name not in NAMES or len(found.items) not in arity or type(found.optional) is not bool or not plain_key:
            raise ValueError(f"{data!r} is no parameter type")
        return found

    def accepts(self, other: ParameterType) -> bool:
        """Whether every value of ``other`` may be given where this type is wanted (an int may be given for a float)."""
        if "any" in (self.name, other.name):
            return True
        if other.optional and not self.optional:
            return False
        if self.name != other.name:
            return self.name == "float" and other.name == "int"
        if not self.items or not other.items:
            return True
        return all(mine.accepts(theirs) for mine, theirs in zip(self.items, other.items, strict=True))


@dataclass(frozen=True, slots=True)
class ArtifactType:
    """``schema_title`` as in Kubeflow (``system.Dataset``); ``is_list`` for a list of such artifacts."""

    schema_title: str
    is_list: bool = False
    optional: bool = False

    def __str__(self) -> str:
        inner = self.schema_title.removeprefix("system.")
        inner = f"List[{inner}]" if self.is_list else inner
        return f"Optional[{inner}]" if self.optional else inner

    def to_json(self) -> Any:
        return {"artifact": self.schema_title, "list": self.is_list, "optional": self.optional}

    @classmethod
    def from_json(cls, data: Any) -> ArtifactType:
        """The inverse of ``to_json``.

        Raises:
            ValueError, KeyError: there is no such type.
        """
        found = cls(data["artifact"], data["list"], data["optional"])
        if [type(value) for value in (found.schema_title, found.is_list, found.optional)] != [str, bool, bool]:
            raise ValueError(f"{data!r} is no artifact type")
        return found

    def accepts(self, other: ArtifactType) -> bool:
        """Kubeflow's rule: the same title, or either side ``system.Artifact``; lists only for lists."""
        if self.is_list != other.is_list or (other.optional and not self.optional):
            return False
        return self.schema_title == other.schema_title or "system.Artifact" in (self.schema_title, other.schema_title)


PortType = ParameterType | ArtifactType


def port_type_from_json(data: Any) -> PortType:
    """The inverse of both types' ``to_json``."""
    if isinstance(data, dict) and "artifact" in data:
        return ArtifactType.from_json(data)
    return ParameterType.from_json(data)


def accepts(wanted: PortType, found: PortType) -> bool:
    """Whether an output of type ``found`` may feed an input of type ``wanted``."""
    if isinstance(wanted, ParameterType):
        return isinstance(found, ParameterType) and wanted.accepts(found)
    return isinstance(found, ArtifactType) and wanted.accepts(found)


def as_list(element: PortType) -> PortType:
    """The type of a list of ``element``: what a loop gathers from its iterations."""
    if isinstance(element, ParameterType):
        return ParameterType("list", (element,))
    return ArtifactType(element.schema_title, is_list=True)
