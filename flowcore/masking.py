"""Secret values in text become ``***``: in whole texts, and in streams whose pieces end anywhere. Knows no secrets by itself."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable

MASK = "***"
#: Lines of a value that has several are masked by themselves from this length on: logs show one line at a time.
_LINE = 8


class Masks:
    """What must not be shown. False where there is nothing."""

    def __init__(self, values: Iterable[bytes]) -> None:
        texts = {form for value in values for form in _forms(value)}
        # Longer ones first: one may hold another.
        self._texts = sorted(texts, key=lambda text: (-len(text), text))
        self._firsts = {text[0] for text in texts}
        self._pattern = re.compile("|".join(map(re.escape, self._texts))) if texts else None

    def __bool__(self) -> bool:
        return self._pattern is not None

    def __repr__(self) -> str:
        return f"<{len(self._texts)} masks>"

    def __call__(self, text: str) -> str:
        """The text with every value in it masked."""
        return text if self._pattern is None else self._pattern.sub(MASK, text)

    def stream(self) -> MaskedStream:
        """For a text that comes in pieces."""
        return MaskedStream(self)

    def safe_length(self, text: str) -> int:
        """How much of the beginning of a text can be masked now, whatever follows it."""
        if self._pattern is None:
            return len(text)
        longest = len(self._texts[0]) - 1
        start = max(0, len(text) - longest)
        while start < len(text) and not self._begins(text, start):
            start += 1
        # What is masked as one must not be cut in two.
        for match in self._pattern.finditer(text):
            if match.start() < start < match.end():
                return match.start()
        return start

    def _begins(self, text: str, start: int) -> bool:
        """Whether the end of a text may be the beginning of a value."""
        if text[start] not in self._firsts:
            return False
        end = text[start:]
        return any(len(secret) > len(end) and secret.startswith(end) for secret in self._texts)


class MaskedStream:
    """Pieces of a text, masked; what may be the beginning of a value is kept until it is known."""

    def __init__(self, masks: Masks) -> None:
        self._masks = masks
        self._kept = ""

    def add(self, piece: str) -> str:
        """Take a piece; give what is known to be safe."""
        text = self._kept + piece
        length = self._masks.safe_length(text)
        self._kept = text[length:]
        return self._masks(text[:length])

    def end(self) -> str:
        """What was kept."""
        text, self._kept = self._kept, ""
        return self._masks(text)


def _forms(value: bytes) -> set[str]:
    """A value as text, and as messages show it: stripped, by line, escaped by repr and JSON."""
    text = value.decode("utf-8", "surrogateescape")
    plain = {text, text.strip()}
    if "\n" in text.strip():
        plain |= {line.strip() for line in text.splitlines() if len(line.strip()) >= _LINE}
    plain = {form for form in plain if form.strip()}
    escaped = {repr(form)[1:-1] for form in plain} | {json.dumps(form)[1:-1] for form in plain}
    return plain | escaped
