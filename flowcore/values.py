"""Parameters to JSON values and back, by declared type. A decoded value is always a fresh copy; nothing is guessed.

Encoded values are plain Python data as ``json`` reads it; nan and the infinities stay floats in memory.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from flowcore.errors import ValueEncodingError
from flowcore.graph.types import ParameterType

Codec = Callable[[Any, str], Any]

_PLAIN = {"str": str, "int": int, "float": float, "bool": bool}


def encode(value: Any, type_: ParameterType, where: str) -> Any:
    """The JSON form of ``value``; numpy scalars are coerced, an int is taken for a float.

    Raises:
        ValueEncodingError: the value does not fit; ``where`` names its component and port.
    """
    return encoder(type_)(value, where)


@lru_cache(maxsize=4096)
def encoder(type_: ParameterType) -> Codec:
    """The function (value, where) → encoded value of a type."""
    if type_.name == "any":
        return encode_any
    if type_.name in _PLAIN:
        inner = _scalar_encoder(type_)
    elif type_.name == "list":
        inner = _list_encoder(type_)
    else:
        inner = _dict_encoder(type_)
    if not type_.optional:
        return inner
    return lambda value, where: None if value is None else inner(value, where)


def _refuse(value: Any, type_: ParameterType, where: str) -> ValueEncodingError:
    found = "None" if value is None else f"{_short(value)} of type {_type_name(value)}"
    remedy = f"declare the port Optional[{type_}] or return a value" if value is None else f"convert it to {type_} or change the port's type"
    return ValueEncodingError(where, found, str(type_), remedy)


def _scalar_encoder(type_: ParameterType) -> Codec:
    wanted = _PLAIN[type_.name]

    def encode_scalar(value: Any, where: str) -> Any:
        kind = type(value)
        if kind is wanted:
            return value
        if wanted is float and kind is int:
            try:
                return float(value)
            except OverflowError:
                raise ValueEncodingError(where, f"an int of {value.bit_length()} bits", "float", "it is too large: use an int port") from None
        plain = _plain_scalar(value)
        kind = type(plain)
        if kind is wanted:
            return plain
        if wanted is float and kind is int:
            return float(plain)
        raise _refuse(value, type_, where)

    return encode_scalar


def _plain_scalar(value: Any) -> Any:
    """A numpy scalar, 0-d array or subclass of a plain type as that plain type; anything else unchanged."""
    if isinstance(value, bool):
        return value
    for plain in (str, int, float):
        if isinstance(value, plain) and type(value).__module__ != "numpy":
            return plain(value) if type(value) is not plain else value
    if type(value).__module__.partition(".")[0] in ("numpy", "torch", "jax", "jaxlib") and getattr(value, "ndim", None) == 0:
        return value.item()
    return value


def _list_encoder(type_: ParameterType) -> Codec:
    element = encoder(type_.items[0]) if type_.items else encode_any

    def encode_list(value: Any, where: str) -> list[Any]:
        if not isinstance(value, list | tuple):
            if type(value).__module__ == "numpy" and getattr(value, "ndim", 0) >= 1:
                value = value.tolist()
            else:
                raise _refuse(value, type_, where)
        return [element(item, f"{where}[{place}]") for place, item in enumerate(value)]

    return encode_list


def _dict_encoder(type_: ParameterType) -> Codec:
    key_type = type_.items[0] if type_.items else ParameterType("str")
    element = encoder(type_.items[1]) if type_.items else encode_any

    def encode_dict(value: Any, where: str) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise _refuse(value, type_, where)
        encoded = {}
        for key, item in value.items():
            plain = _plain_scalar(key)
            if type(plain) is not _PLAIN[key_type.name]:
                raise ValueEncodingError(f"{where}, key {_short(key)}", _type_name(key), f"{key_type} keys", "change the key or the port's type")
            encoded[plain if key_type.name == "str" else json.dumps(plain)] = element(item, f"{where}[{key!r}]")
        return encoded

    return encode_dict


def encode_any(value: Any, where: str) -> Any:
    """A value in an untyped list or dict: any nesting of str, int, float, bool, None, lists and dicts with str keys.

    Raises:
        ValueEncodingError: anything else, or a structure that contains itself.
    """
    kind = type(value)
    if value is None or kind is str or kind is int or kind is float or kind is bool:
        return value
    try:
        if isinstance(value, dict):
            return _ANY_DICT(value, where)
        if isinstance(value, list | tuple) or (kind.__module__ == "numpy" and getattr(value, "ndim", 0) >= 1):
            return _ANY_LIST(value, where)
    except RecursionError:
        raise ValueEncodingError(where, "a structure that contains itself or is too deep", "plain data", "flatten it") from None
    plain = _plain_scalar(value)
    if type(plain) in (str, int, float, bool):
        return plain
    wanted = "plain data (str, int, float, bool, None, list, dict)"
    raise ValueEncodingError(where, f"{_short(value)} of type {_type_name(value)}", wanted, "convert it, or pass an artifact")


_ANY_LIST = _list_encoder(ParameterType("list"))
_ANY_DICT = _dict_encoder(ParameterType("dict"))


@lru_cache(maxsize=4096)
def decoder(type_: ParameterType) -> Codec:
    """The function (encoded value, where) → fresh value of a type. It checks, since a loop's items have no declared type."""
    if type_.name == "any":
        return lambda value, where: copy_plain(value)
    if type_.name in _PLAIN:
        return encoder(type_)
    inner = _list_decoder(type_) if type_.name == "list" else _dict_decoder(type_)
    if not type_.optional:
        return inner
    return lambda value, where: None if value is None else inner(value, where)


def _list_decoder(type_: ParameterType) -> Codec:
    element = decoder(type_.items[0]) if type_.items else None

    def decode_list(value: Any, where: str) -> list[Any]:
        if type(value) is not list:
            raise _refuse(value, type_, where)
        if element is None:
            return [copy_plain(item) for item in value]
        return [element(item, f"{where}, an element") for item in value]

    return decode_list


def _dict_decoder(type_: ParameterType) -> Codec:
    element = decoder(type_.items[1]) if type_.items else None
    text_keys = not type_.items or type_.items[0].name == "str"

    def decode_dict(value: Any, where: str) -> dict[Any, Any]:
        if type(value) is not dict:
            raise _refuse(value, type_, where)
        return {
            key if text_keys else json.loads(key): copy_plain(item) if element is None else element(item, f"{where}[{key!r}]")
            for key, item in value.items()
        }

    return decode_dict


def copy_plain(value: Any) -> Any:
    """A deep copy of plain data."""
    if type(value) is list:
        return [copy_plain(item) for item in value]
    if type(value) is dict:
        return {key: copy_plain(item) for key, item in value.items()}
    return value


def decode(value: Any, type_: ParameterType, where: str) -> Any:
    """The value that a body gets: a fresh copy of the declared type.

    Raises:
        ValueEncodingError: it is of another type.
    """
    return decoder(type_)(value, where)


def to_text(value: Any) -> str:
    """A value inside a string: strings raw, bools as true/false, the rest as JSON (Kubeflow's rule)."""
    return value if isinstance(value, str) else json.dumps(value)


def from_text(text: str, type_: ParameterType, where: str) -> Any:
    """The encoded value of a parameter that was written to a file or given on the command line as text.

    Raises:
        ValueEncodingError: the text is not of that type.
    """
    if type_.name in ("str", "any"):
        return text
    stripped = text.strip()
    if type_.optional and stripped in ("null", "None", ""):
        return None
    if type_.name == "bool" and stripped.lower() in ("true", "false"):
        return stripped.lower() == "true"
    try:
        value = float(stripped) if type_.name == "float" else json.loads(stripped)
    except ValueError:
        raise ValueEncodingError(where, f"the text {_short(text)}", str(type_), f"write {_example(type_)}") from None
    return encode(value, type_, where)


def _example(type_: ParameterType) -> str:
    return {"int": "digits, like 42", "float": "a number, like 0.5", "bool": "true or false", "list": "JSON, like [1, 2]"}.get(
        type_.name, 'JSON, like {"a": 1}'
    )


def is_finite(value: Any) -> bool:
    """Whether plain data holds no nan or infinity: strict JSON writers refuse those."""
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, list):
        return all(map(is_finite, value))
    if isinstance(value, dict):
        return all(map(is_finite, value.values()))
    return True


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _type_name(value: Any) -> str:
    kind = type(value)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
