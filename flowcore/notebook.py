"""Live progress in a notebook: one display that is updated in place. IPython is never imported by us, only used where it runs."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

from flowcore.board import Board

if TYPE_CHECKING:
    from flowcore.runs import Run


def in_notebook() -> bool:
    """Whether this process is a notebook's kernel, which can show HTML; a terminal's IPython cannot."""
    python = sys.modules.get("IPython")
    shell = python.get_ipython() if python is not None and hasattr(python, "get_ipython") else None
    return shell is not None and hasattr(shell, "kernel")


class _Html:
    """Something that a notebook shows as HTML, elsewhere as text."""

    def __init__(self, html: str, text: str) -> None:
        self._html, self._text = html, text

    def _repr_html_(self) -> str:
        return self._html

    def __repr__(self) -> str:
        return self._text


class Notebook:
    """The board as a small table; at the end it becomes the run's own picture."""

    tells_all = True

    def __init__(self, run: Run) -> None:
        self.board = Board(run)
        self._began = time.time()
        self._handle: Any = None

    def start(self) -> None:
        from flowcore.report_html import live_html

        display = sys.modules["IPython.display"].display
        self._handle = display(_Html(live_html(self.board, self._began), repr(self.board.run)), display_id=True)

    def show(self) -> None:
        from flowcore.report_html import live_html

        self._handle.update(_Html(live_html(self.board, self._began), repr(self.board.run)))

    def say(self, message: str) -> bool:
        return False

    def end(self) -> None:
        run = self.board.run
        self._handle.update(_Html(run._repr_html_(), repr(run)))
