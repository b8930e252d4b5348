"""No secret's value in any text: whole, in pieces, by line or escaped."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from flowcore.masking import MASK, Masks

#: Few letters, so that values overlap and hold each other.
VALUES = st.lists(st.text("ab", min_size=1, max_size=4).map(str.encode), min_size=1, max_size=3)
PIECES = st.lists(st.text("abc", max_size=5), max_size=6)


@given(VALUES, PIECES)
def test_pieces_are_masked_as_their_whole_is(values: list[bytes], pieces: list[str]) -> None:
    masks = Masks(values)
    stream = masks.stream()
    told = "".join([*map(stream.add, pieces), stream.end()])
    assert told == masks("".join(pieces))
    assert all(value.decode() not in told for value in values)


def test_nothing_is_held_back_that_cannot_be_a_value() -> None:
    stream = Masks([b"hunter2"]).stream()
    assert [stream.add(piece) for piece in ("in: ", "hun", "ter", "2!", "hunt\n")] == ["in: ", "", "", "***!", "hunt\n"]
    assert stream.end() == ""


def test_longest_value_is_masked_as_one() -> None:
    assert Masks([b"abc", b"abcdef"])("abcdef abc") == f"{MASK} {MASK}"


def test_value_is_masked_as_messages_show_it() -> None:
    key = b"-----BEGIN KEY-----\nMIIEpAIBAAKCAQEA\n-----END KEY-----\n"
    masks = Masks([key, b'pa"ss\\word'])
    text = key.decode()
    for shown in (text, text.strip(), repr(text), "MIIEpAIBAAKCAQEA", 'pa"ss\\word', repr('pa"ss\\word'), '"pa\\"ss\\\\word"'):
        masked = masks(f"<{shown}>")
        assert MASK in masked
        assert "MIIE" not in masked
        assert "word" not in masked


def test_empty_and_blank_values_mask_nothing() -> None:
    masks = Masks([b"", b" \n"])
    assert not masks
    assert masks("a b") == "a b"
    assert masks.stream().add("a b") == "a b"


def test_value_that_is_no_text_is_masked_where_it_could_be_shown() -> None:
    assert Masks([b"\xff\xfe12345678"])("\udcff\udcfe12345678") == MASK


def test_masks_do_not_show_what_they_mask() -> None:
    assert repr(Masks([b"hunter2"])) == "<1 masks>"
