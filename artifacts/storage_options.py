"""Secrets in ``storage_options``: ``{"env": NAME}`` and ``{"file": PATH}`` become values only where a file system is opened.

Values never go into a message: what could be one is masked.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from typing import Any

from flowcore.errors import StorageError

_SECRET_NAME = re.compile(r"secret|token|password|passwd|credential|key|sas|auth|connection_string", re.IGNORECASE)
_MASK = "***"


def resolved(options: Mapping[str, Any], url: str) -> dict[str, Any]:
    """``options`` with the values of all references.

    Raises:
        StorageError: a variable or file is missing; names the option and the reference.
    """
    return {name: _value(option, f"storage_options[{name!r}]", url) for name, option in options.items()}


def masked(text: str, given: Mapping[str, Any], values: Mapping[str, Any]) -> str:
    """``text`` without the values of references and of options whose names sound secret."""
    found = {secret for secret in _secrets(given, values, hidden=False) if secret}
    for secret in sorted(found, key=len, reverse=True):
        text = text.replace(secret, _MASK)
    return text


def is_reference(option: Any) -> bool:
    """Whether ``option`` names where a value is to be read."""
    if not isinstance(option, Mapping) or len(option) != 1:
        return False
    [(kind, name)] = option.items()
    return kind in _READ and isinstance(name, str)


def _value(option: Any, where: str, url: str) -> Any:
    if is_reference(option):
        [(kind, name)] = option.items()
        try:
            return _READ[kind](name)
        except KeyError as error:
            text = f"{url!r}: {where} refers to the environment variable {name!r}, which is not set here; set it"
            raise StorageError(f"{text} wherever tasks run, or name another") from error
        except (OSError, UnicodeError) as error:
            problem = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            text = f"{url!r}: {where} refers to the file {name!r}, which cannot be read here ({problem})"
            raise StorageError(f"{text}; put it wherever tasks run, or name another") from error
    if isinstance(option, Mapping):
        return {name: _value(item, f"{where}[{name!r}]", url) for name, item in option.items()}
    if isinstance(option, list | tuple):
        return type(option)([_value(item, f"{where}[{number}]", url) for number, item in enumerate(option)])
    return option


def _read_file(path: str) -> str:
    with open(os.path.expanduser(path), encoding="utf-8") as file:
        return file.read().rstrip("\r\n")


_READ = {"env": os.environ.__getitem__, "file": _read_file}


def _secrets(given: Any, value: Any, *, hidden: bool) -> Iterator[str]:
    if isinstance(value, str):
        if hidden or is_reference(given):
            yield value
    elif isinstance(value, Mapping):
        for name, item in value.items():
            below = given.get(name) if isinstance(given, Mapping) else None
            yield from _secrets(below, item, hidden=hidden or bool(_SECRET_NAME.search(str(name))))
    elif isinstance(value, list | tuple):
        for item, below in zip(value, given if isinstance(given, list | tuple) else [None] * len(value), strict=False):
            yield from _secrets(below, item, hidden=hidden)
