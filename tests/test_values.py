"""Parameters to JSON and back: each declared type, what is coerced, what is refused and with which words."""

from __future__ import annotations

import enum
import json
import math
from typing import Any

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowcore.errors import ValueEncodingError
from flowcore.graph import ParameterType
from flowcore.values import decode, encode, from_text, to_text

ANY = ParameterType("any")
STR, INT, FLOAT, BOOL = (ParameterType(name) for name in ("str", "int", "float", "bool"))
LIST, DICT = ParameterType("list"), ParameterType("dict")
INTS = ParameterType("list", (INT,))


def optional(type_: ParameterType) -> ParameterType:
    return ParameterType(type_.name, type_.items, optional=True)


def dict_of(key: ParameterType, value: ParameterType) -> ParameterType:
    return ParameterType("dict", (key, value))


def refused(value: Any, type_: ParameterType) -> str:
    with pytest.raises(ValueEncodingError) as caught:
        encode(value, type_, "port")
    return str(caught.value)


def there_and_back(value: Any, type_: ParameterType) -> Any:
    return decode(json.loads(json.dumps(encode(value, type_, "port"))), type_, "port")


class Color(enum.StrEnum):
    RED = "red"


class OldColor(str, enum.Enum):  # noqa: UP042  its str() is not its text
    RED = "red"


class Level(enum.IntEnum):
    HIGH = 3


class Text(str):
    __slots__ = ()


class TestScalars:
    @pytest.mark.parametrize(
        ("value", "type_"),
        [
            ("é\n", STR),
            ("", STR),
            (5, INT),
            (-(2**200), INT),
            (2.5, FLOAT),
            (math.inf, FLOAT),
            (True, BOOL),
            (None, optional(INT)),
        ],
    )
    def test_value_comes_back_as_it_was(self, value: Any, type_: ParameterType) -> None:
        back = there_and_back(value, type_)
        assert back == value
        assert type(back) is type(value)

    def test_nan_is_allowed_in_float_ports(self) -> None:
        assert math.isnan(there_and_back(math.nan, FLOAT))

    def test_int_becomes_a_float_in_float_ports(self) -> None:
        assert repr(encode(3, FLOAT, "port")) == "3.0"

    @pytest.mark.parametrize(
        ("value", "type_", "expected"),
        [
            (numpy.float32(0.5), FLOAT, 0.5),
            (numpy.float64(0.1), FLOAT, 0.1),
            (numpy.int64(7), INT, 7),
            (numpy.uint8(7), FLOAT, 7.0),
            (numpy.bool_(True), BOOL, True),
            (numpy.str_("x"), STR, "x"),
            (numpy.array(3), INT, 3),
            (Text("x"), STR, "x"),
            (Color.RED, STR, "red"),
            (OldColor.RED, STR, "red"),
            (Level.HIGH, INT, 3),
            (Level.HIGH, FLOAT, 3.0),
        ],
    )
    def test_scalar_of_another_kind_becomes_the_plain_one(self, value: Any, type_: ParameterType, expected: Any) -> None:
        for found in (encode(value, type_, "port"), encode(value, ANY, "port") if type_ is not FLOAT else expected):
            assert found == expected
            assert type(found) is type(expected)

    @pytest.mark.parametrize(
        ("value", "type_", "message"),
        [
            (True, INT, "port: got True of type bool, wants int; convert it to int or change the port's type"),
            (True, FLOAT, "got True of type bool, wants float"),
            (numpy.bool_(True), INT, "of type numpy.bool, wants int"),
            (1, BOOL, "got 1 of type int, wants bool"),
            (3.0, INT, "got 3.0 of type float, wants int"),
            (numpy.float64(3), INT, "of type numpy.float64, wants int"),
            ("3", INT, "got '3' of type str, wants int"),
            (3, STR, "got 3 of type int, wants str"),
            (b"x", STR, "got b'x' of type bytes, wants str"),
            (None, STR, "got None, wants str; declare the port Optional[str] or give a value"),
            pytest.param(2**1024 - 1, FLOAT, "got an int of 1024 bits, wants float", id="rounds to infinity"),
            pytest.param(10**400, FLOAT, "got an int of 1329 bits, wants float; it is too large: use an int port", id="no float"),
            pytest.param(10**4300, INT, "wants int; it is too large: pass it as text, or in an artifact", id="huge"),
        ],
    )
    def test_misfit_is_refused(self, value: Any, type_: ParameterType, message: str) -> None:
        assert message in refused(value, type_)


class TestStructures:
    def test_ints_stay_ints_and_tuples_become_lists(self) -> None:
        assert repr(there_and_back((1, 2.0, (True, None)), LIST)) == "[1, 2.0, [True, None]]"

    def test_elements_are_checked_with_their_place(self) -> None:
        type_ = ParameterType("list", (dict_of(STR, INTS),))
        assert "port[1]['a'][0]: got 'x' of type str, wants int" in refused([{}, {"a": ["x"]}], type_)

    def test_keys_of_other_types_come_back(self) -> None:
        for type_, value in [
            (dict_of(INT, STR), {1: "a", -5: "b"}),
            (dict_of(FLOAT, INT), {0.5: 1, math.inf: 2}),
            (dict_of(BOOL, INT), {True: 1, False: 0}),
        ]:
            assert there_and_back(value, type_) == value

    def test_key_of_the_wrong_type_is_refused(self) -> None:
        assert "got the key 1 of type int, wants str keys; change the key or the port's type" in refused({1: 2}, DICT)
        assert "got the key True of type bool, wants int keys" in refused({True: 2}, dict_of(INT, INT))

    def test_encoded_key_that_is_none_is_refused(self) -> None:
        with pytest.raises(ValueEncodingError, match=r"port, a key: got the text 'x', wants int"):
            decode({"x": 1}, dict_of(INT, INT), "port")

    def test_arrays_become_lists(self) -> None:
        assert encode(numpy.array([[1, 2], [3, 4]]), LIST, "port") == [[1, 2], [3, 4]]
        assert encode([numpy.arange(2)], ParameterType("list", (INTS,)), "port") == [[0, 1]]
        assert encode({"a": numpy.array([0.5])}, DICT, "port") == {"a": [0.5]}

    def test_structure_that_contains_itself_is_refused_in_short_words(self) -> None:
        loop: list[Any] = []
        loop.append(loop)
        message = refused(loop, LIST)
        assert "a structure that contains itself or is over 100 deep" in message
        assert len(message) < 400

    def test_deep_structure_comes_back(self) -> None:
        value: Any = 1
        for _ in range(100):
            value = [value]
        assert there_and_back(value, LIST) == value
        assert "over 100 deep" in refused([[value]], LIST)

    @pytest.mark.parametrize("value", [{1, 2}, b"x", object(), 1 + 2j, [10**5000]])
    def test_what_is_no_plain_data_is_refused(self, value: Any) -> None:
        assert "port" in refused([value], LIST)

    def test_value_whose_repr_fails_is_refused_all_the_same(self) -> None:
        class Rude:
            def __repr__(self) -> str:
                raise RuntimeError

        assert "a value of type" in refused(Rude(), INT)

    def test_every_decoded_copy_is_fresh(self) -> None:
        for type_ in (LIST, ANY, ParameterType("list", (dict_of(STR, INTS),))):
            encoded = encode([{"a": [1]}], type_, "port")
            first = decode(encoded, type_, "port")
            first[0]["a"].append(2)
            first.append(3)
            assert decode(encoded, type_, "port") == [{"a": [1]}]

    def test_encoding_copies_too(self) -> None:
        mine = [{"a": [1]}]
        encoded = encode(mine, LIST, "port")
        mine[0]["a"].append(2)
        assert encoded == [{"a": [1]}]

    def test_decoding_checks_what_nobody_declared(self) -> None:
        with pytest.raises(ValueEncodingError, match=r"got 'x' of type str, wants int"):
            decode("x", INT, "port")
        with pytest.raises(ValueEncodingError, match=r"wants List\[int\]"):
            decode({"a": 1}, INTS, "port")


SCALARS = {
    "str": st.text(),
    "int": st.integers(),
    "float": st.floats(allow_nan=False),
    "bool": st.booleans(),
}


@st.composite
def typed_values(draw: st.DrawFn, depth: int = 3) -> tuple[ParameterType, Any]:
    kind = draw(st.sampled_from([*SCALARS, *(["list", "dict"] if depth else [])]))
    make_optional = draw(st.booleans())
    if kind in SCALARS:
        type_, values = ParameterType(kind, optional=make_optional), SCALARS[kind]
        return type_, draw(st.none() | values if make_optional else values)
    element, example = draw(typed_values(depth=depth - 1))
    if kind == "list":
        return ParameterType("list", (element,), make_optional), [example] * draw(st.integers(0, 3))
    key = draw(st.sampled_from(list(SCALARS)))
    keys = draw(st.lists(SCALARS[key], max_size=3, unique=True))
    return ParameterType("dict", (ParameterType(key), element), make_optional), dict.fromkeys(keys, example)


def exact(value: Any) -> Any:
    """A form in which 1, 1.0 and True differ."""
    if isinstance(value, dict):
        return {repr(key): exact(item) for key, item in value.items()}
    return [exact(item) for item in value] if isinstance(value, list) else repr(value)


@given(typed_values())
def test_any_value_of_any_type_comes_back_as_it_was(typed: tuple[ParameterType, Any]) -> None:
    type_, value = typed
    assert exact(there_and_back(value, type_)) == exact(value)


@given(typed_values())
def test_type_comes_back_from_json(typed: tuple[ParameterType, Any]) -> None:
    type_, _ = typed
    assert ParameterType.from_json(json.loads(json.dumps(type_.to_json()))) == type_
    assert type_.accepts(type_)


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@given(PLAIN)
def test_any_plain_data_comes_back_as_it_was(value: Any) -> None:
    assert exact(there_and_back(value, ANY)) == exact(value)


class TestText:
    @pytest.mark.parametrize(
        ("text", "type_", "expected"),
        [
            (" 42 ", INT, 42),
            ("0.5", FLOAT, 0.5),
            ("1", FLOAT, 1.0),
            ("nan", FLOAT, math.nan),
            ("-inf", FLOAT, -math.inf),
            ("true", BOOL, True),
            ("False", BOOL, False),
            (" text ", STR, " text "),
            ("null", optional(INT), None),
            ("", optional(FLOAT), None),
            ("[1, 2]", INTS, [1, 2]),
            ('{"a": [1, null]}', DICT, {"a": [1, None]}),
            ('{"1": "a"}', dict_of(INT, STR), {"1": "a"}),
        ],
    )
    def test_text_is_read_by_type(self, text: str, type_: ParameterType, expected: Any) -> None:
        assert repr(from_text(text, type_, "port")) == repr(expected)

    @pytest.mark.parametrize(
        ("text", "type_", "message"),
        [
            ("x", INT, "port: got the text 'x', wants int; write digits, like 42"),
            ("true", INT, "got True of type bool, wants int"),
            ("yes", BOOL, "write true or false"),
            ("[1", LIST, "write JSON, like [1, 2]"),
            ('["a"]', INTS, "got 'a' of type str, wants int"),
            ('{"a": 1}', dict_of(INT, INT), "a key: got the text 'a', wants int"),
            ("9" * 5000, INT, "wants int"),
        ],
    )
    def test_text_of_another_type_is_refused(self, text: str, type_: ParameterType, message: str) -> None:
        with pytest.raises(ValueEncodingError) as caught:
            from_text(text, type_, "port")
        assert message in str(caught.value)

    @pytest.mark.parametrize(
        ("value", "text"), [("a", "a"), (1, "1"), (True, "true"), (None, "null"), ([1, "é"], '[1, "\\u00e9"]'), (0.1, "0.1")]
    )
    def test_value_inside_a_text(self, value: Any, text: str) -> None:
        assert to_text(value) == text
