"""What bodies print and log reaches the sink of their context, and nobody notices anything else."""

from __future__ import annotations

import asyncio
import contextvars
import io
import logging
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from flowcore.capture import Sink, capturing, into

Lines = list[tuple[str, str]]
LOG = logging.getLogger("tests.capture")


class Terminal:
    """What reached the streams that were there before."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys
        self._out, self._err = "", ""

    def _read(self) -> None:
        out, err = self._capsys.readouterr()
        self._out, self._err = self._out + out, self._err + err

    @property
    def out(self) -> str:
        self._read()
        return self._out

    @property
    def err(self) -> str:
        self._read()
        return self._err


@pytest.fixture
def terminal(capsys: pytest.CaptureFixture[str]) -> Terminal:
    return Terminal(capsys)


@contextmanager
def bare_logging() -> Iterator[None]:
    """Root logging without pytest's own handlers, as in a plain script."""
    handlers, logging.root.handlers = logging.root.handlers, []
    try:
        yield
    finally:
        logging.root.handlers = handlers


def make_sink(passthrough: bool = False) -> tuple[Sink, Lines]:
    lines: Lines = []
    return Sink(lambda stream, text: lines.append((stream, text)), passthrough=passthrough), lines


def say(text: str, end: str = "\n") -> None:
    sys.stdout.write(text + end)


class TestStreams:
    def test_prints_go_to_the_sink_by_whole_lines(self, terminal: Terminal) -> None:
        sink, lines = make_sink()
        with capturing(), into(sink):
            say("a", end="")
            say("b\nc", end="")
            sys.stderr.write("e\n")
            assert lines == [("stdout", "ab\n"), ("stderr", "e\n")]
        assert lines[2:] == [("stdout", "c")], "what is left of a line comes at the end"
        assert terminal.out == ""

    def test_passthrough_also_reaches_the_terminal(self, terminal: Terminal) -> None:
        sink, lines = make_sink(passthrough=True)
        with capturing(), into(sink):
            say("seen")
        assert terminal.out == "seen\n"
        assert lines == [("stdout", "seen\n")]

    def test_output_outside_a_body_is_untouched(self, terminal: Terminal) -> None:
        sink, lines = make_sink()
        with capturing():
            say("before")
            with into(sink):
                say("inside")
            say("after")
        assert terminal.out == "before\nafter\n"
        assert lines == [("stdout", "inside\n")]

    def test_other_threads_are_untouched(self, terminal: Terminal) -> None:
        sink, lines = make_sink()
        with capturing(), into(sink):
            thread = threading.Thread(target=say, args=["other"])
            thread.start()
            thread.join()
        assert lines == []
        assert terminal.out == "other\n"

    def test_two_bodies_at_once_have_their_own_lines(self, terminal: Terminal) -> None:
        turn = threading.Barrier(2)
        sinks = [make_sink(), make_sink()]

        def body(number: int) -> None:
            with into(sinks[number][0]):
                for step in range(3):
                    say(f"{number}.", end="")
                    turn.wait(10)
                    say(f"{step}")

        with capturing():
            threads = [threading.Thread(target=body, args=[number]) for number in range(2)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        for number, (_, lines) in enumerate(sinks):
            assert "".join(text for _, text in lines) == "".join(f"{number}.{step}\n" for step in range(3))

    def test_threads_of_one_body_lose_and_repeat_nothing(self, terminal: Terminal) -> None:
        sink, lines = make_sink()

        def write(number: int) -> None:
            for step in range(200):
                say(f"{number}.{step}")

        with capturing(), into(sink):
            contexts = [contextvars.copy_context() for _ in range(4)]
            threads = [threading.Thread(target=context.run, args=[write, number]) for number, context in enumerate(contexts)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        written = "".join(text for _, text in lines)
        assert len(written) == sum(len(f"{number}.{step}\n") for number in range(4) for step in range(200))

    def test_async_bodies_keep_their_sink_in_threads_of_theirs(self, terminal: Terminal) -> None:
        sink, lines = make_sink()
        with capturing(), into(sink):
            asyncio.run(asyncio.to_thread(say, "from a thread"))
        assert lines == [("stdout", "from a thread\n")]

    def test_nested_sinks_come_back(self, terminal: Terminal) -> None:
        outer, outer_lines = make_sink()
        inner, inner_lines = make_sink()
        with capturing(), into(outer):
            say("1")
            with into(inner):
                say("2")
            say("3")
        assert outer_lines == [("stdout", "1\n"), ("stdout", "3\n")]
        assert inner_lines == [("stdout", "2\n")]

    def test_streams_stay_streams(self, terminal: Terminal) -> None:
        with capturing():
            assert sys.stdout.isatty() is False
            assert sys.stdout.writable()
            sys.stdout.flush()
            sys.stdout.writelines(["a\n", "b\n"])
            assert sys.stdout.write("xyz") == 3
        assert terminal.out == "a\nb\nxyz"


class TestInstalling:
    def test_nothing_stays_installed(self, terminal: Terminal) -> None:
        handlers = list(logging.root.handlers)
        streams = sys.stdout, sys.stderr
        with capturing():
            assert sys.stdout is not streams[0]
            with capturing():
                pass
            assert sys.stdout is not streams[0], "the outer block still captures"
        assert (sys.stdout, sys.stderr) == streams
        assert logging.root.handlers == handlers

    def test_nothing_stays_installed_after_an_error(self, terminal: Terminal) -> None:
        stream = sys.stdout
        with pytest.raises(KeyError), capturing():
            raise KeyError
        assert sys.stdout is stream

    def test_stream_that_somebody_put_on_top_is_left(self, monkeypatch: pytest.MonkeyPatch) -> None:
        theirs = io.StringIO()
        with monkeypatch.context() as patch:
            with capturing():
                patch.setattr(sys, "stdout", theirs)
            assert sys.stdout is theirs

    def test_blocks_may_overlap_between_threads(self, terminal: Terminal) -> None:
        inside, leave = threading.Event(), threading.Event()
        stream = sys.stdout

        def other() -> None:
            with capturing():
                inside.set()
                leave.wait(10)

        thread = threading.Thread(target=other)
        with capturing():
            thread.start()
            inside.wait(10)
        assert sys.stdout is not stream
        leave.set()
        thread.join()
        assert sys.stdout is stream


class TestLogging:
    def test_records_go_to_the_sink(self, terminal: Terminal) -> None:
        sink, lines = make_sink()
        with bare_logging(), capturing(), into(sink):
            LOG.warning("careful %s", 1)
        assert lines == [("log", "WARNING tests.capture: careful 1\n")]
        assert terminal.err == ""

    def test_last_resort_goes_on_for_everyone_else(self, terminal: Terminal) -> None:
        with bare_logging(), capturing():
            LOG.warning("outside")
            LOG.info("too quiet")
        with bare_logging():
            LOG.warning("afterwards")
        assert terminal.err == "outside\nafterwards\n"

    def test_last_resort_of_a_shown_body_is_captured_once(self, terminal: Terminal) -> None:
        sink, lines = make_sink(passthrough=True)
        with bare_logging(), capturing(), into(sink):
            LOG.warning("careful")
        assert lines == [("log", "WARNING tests.capture: careful\n")]
        assert terminal.err == "careful\n"

    def test_logger_with_a_handler_of_its_own_is_not_repeated(self, terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
        own = io.StringIO()
        monkeypatch.setattr(LOG, "handlers", [logging.StreamHandler(own)])
        with bare_logging(), capturing():
            LOG.warning("once")
        assert own.getvalue() == "once\n"
        assert terminal.err == ""

    def test_last_resort_may_be_switched_off(self, terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(logging, "lastResort", None)
        with bare_logging(), capturing():
            LOG.warning("unseen")
        assert terminal.err == ""

    def test_record_that_cannot_be_formatted_does_not_fail_its_body(self, terminal: Terminal) -> None:
        sink, lines = make_sink()
        with bare_logging(), capturing(), into(sink):
            LOG.warning("%d items", "seven")
        assert "--- Logging error ---" in "".join(text for _, text in lines)


@pytest.mark.parametrize("passthrough", [False, True])
def test_process_without_streams_prints_nothing_and_captures_all(passthrough: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    sink, lines = make_sink(passthrough)
    monkeypatch.setattr(sys, "stdout", None)
    with capturing():
        print("host", flush=True)  # noqa: T201
        with into(sink):
            print("body", flush=True)  # noqa: T201
    assert sys.stdout is None
    assert lines == [("stdout", "body\n")]
