"""What a person sees of a run while it goes on: a live tree on a terminal or in a notebook, plain lines elsewhere.

It looks at the record in a thread of its own, which takes no more than SHARE of the time, and can neither stop nor fail the run.
Rich is loaded on first use.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol

from flowcore import looks
from flowcore.board import Board, remark, seconds_of
from flowcore.errors import FlowcoreError
from flowcore.looks import TaskLook
from flowcore.report import Row, duration, first_line, mark_of, print_summary, write
from flowcore.run_state import TERMINAL

if TYPE_CHECKING:
    from rich.console import RenderableType

    from flowcore.runs import Run

REFRESH_SECONDS = 0.1
#: How much of a processor looking on may take: after a costly look the next one waits longer.
SHARE = 0.03
#: Failures of one loop beyond so many are counted, not named, on lines.
NAMED_FAILURES = 20


class View(Protocol):
    """Shows a board; ``show`` is called after each look, ``end`` once the run, or the block, has ended.

    ``tells_all``: what it leaves on the screen is the summary already.
    """

    board: Board
    tells_all: bool

    def start(self) -> None: ...

    def show(self) -> None: ...

    def end(self) -> None: ...

    def say(self, message: str) -> bool: ...


class Progress:
    """Shows a run while the block runs. It leaves no thread behind.

    ``live=False`` gives lines on a terminal too, for runs whose bodies may use the terminal themselves.
    """

    def __init__(self, run: Run, *, live: bool = True) -> None:
        self._run = run
        self._live = live
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        self.view: View | None = None

    def __enter__(self) -> Progress:
        # What cannot be read or shown is the run's own error, or a closed pipe: neither may disturb the run.
        with suppress(FlowcoreError, OSError, ValueError):
            view = _view(self._run, live=self._live)
            view.start()
            self.view = view
            name = f"flowcore-progress-{self._run.run_id}"
            self._thread = threading.Thread(target=self._follow, args=[view], name=name, daemon=True)
            self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._ended.set()
        if self._thread is not None and self.view is not None:
            self._thread.join()
            with suppress(FlowcoreError, OSError, ValueError):
                self.view.end()

    def say(self, message: str) -> bool:
        """Tell the person something, in the place of the view; False where the view has no such place."""
        return self.view is not None and self.view.say(message)

    def summarize(self) -> None:
        """Print what the run came to, where the view has not left that behind itself."""
        if self.view is None or not self.view.tells_all:
            print_summary(self._run)

    def _follow(self, view: View) -> None:
        with suppress(FlowcoreError, OSError, ValueError):
            wait = REFRESH_SECONDS
            while not self._ended.wait(wait):
                began = time.thread_time()
                view.board.look()
                view.show()
                wait = max(REFRESH_SECONDS, (time.thread_time() - began) / SHARE)


def _view(run: Run, *, live: bool) -> View:
    from flowcore.notebook import Notebook, in_notebook

    if in_notebook():
        return Notebook(run)
    return _Tree(run) if live and _is_terminal(sys.stdout) else _Lines(run)


def _is_terminal(stream: Any) -> bool:
    """Whether a live view can be drawn there: a terminal that can move its cursor and knows our marks."""
    utf = str(getattr(stream, "encoding", "") or "").lower().startswith("utf")
    return utf and os.environ.get("TERM") != "dumb" and bool(getattr(stream, "isatty", lambda: False)())


class _Lines:
    """Plain lines, for logs and pipes: one for each task that begins or ends, for a loop one for each tenth of it."""

    tells_all = False

    def __init__(self, run: Run) -> None:
        self.board = Board(run)
        self._run_state = ""
        self._told: dict[str, tuple[str, int, str]] = {}
        self._tenths: dict[str, int] = {}
        self._failures: dict[str, set[str]] = {}

    def start(self) -> None:
        self._tell_run(time.time(), "RUNNING")

    def end(self) -> None:
        self.board.look()
        self.show()
        if self.board.state != self._run_state:
            row = self.board.run.row()
            took = "" if row.started_at is None or row.finished_at is None else duration(row.finished_at - row.started_at)
            self._tell_run(row.finished_at or time.time(), self.board.state, took)

    def _tell_run(self, at: float, state: str, took: str = "") -> None:
        self._run_state = state
        run = self.board.run
        _print_lines([(at, " ".join(part for part in ("run", run.run_id, "of", run.pipeline.name, state, took) if part))])

    def say(self, message: str) -> bool:
        return False

    def show(self) -> None:
        lines: list[tuple[float, str]] = []
        for look in self.board.tasks.values():
            waits = self.board.notes.get(look.path, "") if look.state in ("WAITING", "SUBMITTED") else ""
            now = (look.state, look.attempt, waits)
            if look.path in self.board.loops:
                lines += self._loop_lines(look)
            if self._told.get(look.path) == now or (look.state in ("WAITING", "SUBMITTED") and not waits):
                continue
            self._told[look.path] = now
            lines.append(self._line(look, waits))
        _print_lines(sorted(lines, key=lambda line: line[0]))

    def _line(self, look: TaskLook, waits: str) -> tuple[float, str]:
        if waits:
            return time.time(), f"{look.path} {look.state} {first_line(waits)}"
        words = [look.path, look.state]
        seconds = seconds_of(look)
        if seconds is not None:
            words.append(duration(seconds))
        if look.attempt > 1:
            words.append(f"(attempt {look.attempt})")
        if look.state in TERMINAL:
            words.append(f"({self.board.counts(look.path)})" if look.path in self.board.loops else remark(look))
            at = look.finished_at
        else:
            at = look.started_at
        return at or time.time(), " ".join(word for word in words if word)

    def _loop_lines(self, look: TaskLook) -> list[tuple[float, str]]:
        path, counts = look.path, self.board.loops[look.path]
        named = self._failures.setdefault(path, set())
        lines: list[tuple[float, str]] = []
        if counts.failed and len(named) < NAMED_FAILURES:
            for failed in looks.failed_in(self.board.run._records, self.board.run.run_id, path, NAMED_FAILURES):
                if failed.path not in named:
                    named.add(failed.path)
                    lines.append(self._line(failed, ""))
            if len(named) == NAMED_FAILURES:
                lines.append((time.time(), f"{path}: further failures are only counted"))
        total = self.board.totals.get(path) or counts.begun
        tenth = counts.done * 10 // total if total else 0
        if tenth > self._tenths.get(path, 0):
            self._tenths[path] = tenth
            if look.state not in TERMINAL:
                lines.append((time.time(), f"{path} {self.board.counts(path)}"))
        return lines


def _print_lines(lines: list[tuple[float, str]]) -> None:
    if lines:
        write("".join(f"{time.strftime('%H:%M:%S', time.localtime(at))} {line}\n" for at, line in lines))


class _Tree:
    """A live tree of the pipeline's tasks on a terminal; it vanishes at the end, where the summary takes its place."""

    tells_all = False

    def __init__(self, run: Run) -> None:
        from rich.console import Console
        from rich.live import Live

        class Screen(Console):
            def on_broken_pipe(self) -> None:
                """Rich would end the process where nobody reads any more; the run goes on."""
                self.quiet = True

        self.board = Board(run)
        self._began = time.time()
        self._console = Screen()
        # No redirection: sys.stdout is flowcore.capture's to replace, and two owners would restore each other's streams.
        self._live = Live(
            console=self._console, auto_refresh=False, transient=True, redirect_stdout=False, redirect_stderr=False,
            get_renderable=self.render,
        )  # fmt: skip

    def start(self) -> None:
        self._live.start()

    def show(self) -> None:
        self._live.refresh()

    def end(self) -> None:
        self._live.stop()

    def say(self, message: str) -> bool:
        from rich.text import Text

        self._live.console.print(Text(message, style="yellow"), soft_wrap=True)
        return True

    def render(self) -> RenderableType:
        from rich.cells import cell_len
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        now = time.time()
        rows = list(self.board.rows(now))
        room = max(5, self._console.height - 4)
        shown, rest = choose(rows, room)
        run = self.board.run
        head = Text.assemble((run.pipeline.name, "bold"), f"  {duration(now - self._began)}  ", (run.run_id, "dim"))
        table = Table.grid(padding=(0, 2, 0, 0))
        widest = max((2 * row.depth + 4 + cell_len(row.name) for row in shown), default=0)
        table.add_column(no_wrap=True, overflow="ellipsis", min_width=min(widest, self._console.width // 2))
        table.add_column(justify="right", no_wrap=True)
        table.add_column(style="dim", no_wrap=True, overflow="ellipsis")
        for row in shown:
            mark, style = mark_of(row.state)
            name = Text.assemble(f"{'  ' * row.depth}  ", (mark, style), f" {row.name}")
            table.add_row(name, "" if row.seconds is None else duration(row.seconds), Text(first_line(row.note)))
        return Group(head, table, Text(f"  {rest}", style="dim")) if rest else Group(head, table)


def choose(rows: list[Row], room: int) -> tuple[list[Row], str]:
    """The rows that fit, those that matter now first, and a line about the others."""
    if len(rows) <= room:
        return rows, ""
    urgency = {"FAILED": 0, "RUNNING": 1, "SUBMITTED": 2, "WAITING": 3, "READY": 3}
    ranked = sorted(range(len(rows)), key=lambda place: (urgency.get(rows[place].state, 4), place))
    kept = sorted(ranked[:room])
    left = ranked[room:]
    states: dict[str, int] = {}
    for place in left:
        word = rows[place].state.lower()
        states[word] = states.get(word, 0) + 1
    return [rows[place] for place in kept], "and " + ", ".join(f"{count} {word}" for word, count in sorted(states.items()))
