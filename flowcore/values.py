"""Parameters to JSON values and back, by declared type. A decoded value is always a fresh copy; nothing is guessed.

Encoded values are plain Python data as ``json`` reads it; nan and the infinities stay floats in memory.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from flowcore.errors import ValueEncodingError
from flowcore.graph.types import ParameterType

Codec = Callable[[Any, str], Any]

_PLAIN: dict[str, type[Any]] = {"str": str, "int": int, "float": float, "bool": bool}
#: Python's own limit of an int as text, and so of JSON: 4,300 digits.
_INT_END = 10**4300
_INT64 = 1 << 63
#: From here on an int rounds to more than the largest float.
_FLOAT_END = 2**1024 - 2**970
#: Deeper than any JSON reader promises to go.
MAX_DEPTH = 100


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
    if value is None:
        return ValueEncodingError(where, "None", str(type_), f"declare the port Optional[{type_}] or give a value")
    found = f"{_short(value)} of type {_type_name(value)}"
    return ValueEncodingError(where, found, str(type_), f"convert it to {type_} or change the port's type")


def _scalar_encoder(type_: ParameterType) -> Codec:
    wanted = _PLAIN[type_.name]
    bounded = wanted is int

    def encode_scalar(value: Any, where: str) -> Any:
        if type(value) is wanted and (not bounded or -_INT64 < value < _INT64):
            return value
        plain = value if type(value) is wanted else plain_scalar(value)
        kind = type(plain)
        if kind is int and wanted in (int, float):
            _check_size(plain, wanted.__name__, where)
            return wanted(plain)
        if kind is not wanted:
            raise _refuse(value, type_, where)
        return plain

    return encode_scalar


def _check_size(value: int, wanted: str, where: str) -> None:
    if abs(value) >= (_FLOAT_END if wanted == "float" else _INT_END):
        remedy = "use an int port" if wanted == "float" else "pass it as text, or in an artifact"
        raise ValueEncodingError(where, f"an int of {value.bit_length()} bits", wanted, f"it is too large: {remedy}")


def plain_scalar(value: Any) -> Any:
    """A numpy scalar, 0-d array or subclass of a plain type as that plain type; anything else unchanged."""
    if type(value).__module__.partition(".")[0] in ("numpy", "torch", "jax", "jaxlib"):
        return value.item() if getattr(value, "ndim", None) == 0 else value
    if isinstance(value, bool):
        return value
    for plain, convert in _CONVERT:
        if isinstance(value, plain):
            return convert(value)
    return value


# Not str(value): of an enum that is its name, not its text.
_CONVERT: list[tuple[type[Any], Callable[[Any], Any]]] = [(str, str.__str__), (int, int.__int__), (float, float.__float__)]


def _list_encoder(type_: ParameterType) -> Codec:
    element = encoder(type_.items[0]) if type_.items else encode_any

    def encode_list(value: Any, where: str) -> list[Any]:
        if not isinstance(value, list | tuple):
            if not _is_array(value):
                raise _refuse(value, type_, where)
            value = value.tolist()
        return [element(item, f"{where}[{place}]") for place, item in enumerate(value)]

    return encode_list


def _is_array(value: Any) -> bool:
    return type(value).__module__ == "numpy" and getattr(value, "ndim", 0) >= 1


def _dict_encoder(type_: ParameterType) -> Codec:
    key = _key_encoder(type_.items[0] if type_.items else _STR)
    element = encoder(type_.items[1]) if type_.items else encode_any

    def encode_dict(value: Any, where: str) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise _refuse(value, type_, where)
        return {key(name, where): element(item, f"{where}[{name!r}]") for name, item in value.items()}

    return encode_dict


def _key_encoder(type_: ParameterType) -> Callable[[Any, str], str]:
    """Keys are text in JSON: a str as it is, others as their JSON."""
    inner = _scalar_encoder(type_)

    def encode_key(key: Any, where: str) -> str:
        try:
            encoded = inner(key, where)
        except ValueEncodingError:
            found, remedy = f"the key {_short(key)} of type {_type_name(key)}", "change the key or the port's type"
            raise ValueEncodingError(where, found, f"{type_} keys", remedy) from None
        return encoded if type_.name == "str" else json.dumps(encoded)

    return encode_key


def encode_any(value: Any, where: str) -> Any:
    """A value in an untyped list or dict: any nesting of str, int, float, bool, None, lists and dicts with str keys.

    Raises:
        ValueEncodingError: anything else, or a structure that contains itself or is more than MAX_DEPTH deep.
    """
    return _encode_any(value, where, MAX_DEPTH)


def _is_atom(value: Any) -> bool:
    """Whether a value is its own JSON form, seen at once."""
    kind = type(value)
    return kind is str or kind is float or kind is bool or value is None or (kind is int and -_INT64 < value < _INT64)


def _encode_any(value: Any, where: str, depth: int) -> Any:
    if _is_atom(value):
        return value
    if depth == 0:
        place = where if len(where) <= 200 else f"{where[:100]}…"
        raise ValueEncodingError(
            place, f"a structure that contains itself or is over {MAX_DEPTH} deep", "plain data", "flatten it"
        )
    if isinstance(value, dict):
        return {_any_key(key, where): _encode_any(item, f"{where}[{key!r}]", depth - 1) for key, item in value.items()}
    if isinstance(value, list | tuple) or _is_array(value):
        items = value if isinstance(value, list | tuple) else value.tolist()
        return [
            item if _is_atom(item) else _encode_any(item, f"{where}[{place}]", depth - 1) for place, item in enumerate(items)
        ]
    plain = plain_scalar(value)
    if type(plain) is int:
        _check_size(plain, "int", where)
    if type(plain) in (str, int, float, bool):
        return plain
    wanted = "plain data (str, int, float, bool, None, list, dict)"
    raise ValueEncodingError(where, f"{_short(value)} of type {_type_name(value)}", wanted, "convert it, or pass an artifact")


_STR = ParameterType("str")
_any_key = _key_encoder(_STR)


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
    if not type_.items:
        return _decode_plain_dict
    key_type, element = type_.items[0], decoder(type_.items[1])

    def decode_dict(value: Any, where: str) -> dict[Any, Any]:
        if type(value) is not dict:
            raise _refuse(value, type_, where)
        return {from_text(key, key_type, f"{where}, a key"): element(item, f"{where}[{key!r}]") for key, item in value.items()}

    return decode_dict


def _decode_plain_dict(value: Any, where: str) -> dict[str, Any]:
    if type(value) is not dict:
        raise _refuse(value, ParameterType("dict"), where)
    return {key: copy_plain(item) for key, item in value.items()}


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
    # Decoded first: JSON has the keys of Dict[int, ...] as text.
    return encode(decode(value, type_, where), type_, where)


def _example(type_: ParameterType) -> str:
    return {"int": "digits, like 42", "float": "a number, like 0.5", "bool": "true or false", "list": "JSON, like [1, 2]"}.get(
        type_.name, 'JSON, like {"a": 1}'
    )


def _short(value: Any) -> str:
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001  an author's own __repr__, or an int of too many digits
        return "a value"
    text = " ".join(text.split())  # a table's text has many lines
    return text if len(text) <= 60 else f"{text[:57]}..."


def _type_name(value: Any) -> str:
    kind = type(value)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
