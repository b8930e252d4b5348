"""How a driver is run to its end whatever interrupts the caller: on a thread of its own, or with its bodies on the caller's.

Python raises KeyboardInterrupt on the main thread only, between any two of its steps. So what must not be left half done runs on
another thread, and the main thread waits there; bodies that need the caller's thread (inline) are all that runs on it.
"""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from flowcore.errors import FlowcoreError

if TYPE_CHECKING:
    from flowcore.runner import Driver
    from flowcore.runs import Run

#: How many interrupts of one wait are taken; the next one leaves it, and what was waited for ends by itself.
PRESSES = 3


class Aside:
    """One call on a thread of its own, made once however often it is started and waited for."""

    def __init__(self, call: Callable[[], object], then: Callable[[], object] = bool, name: str = "flowcore-aside") -> None:
        self._call = call
        self._then = then
        self._name = name
        self._claim = threading.Lock()
        self._done = threading.Event()
        self._threads: list[threading.Thread] = []
        self._started = False
        self.error: BaseException | None = None

    def start(self) -> None:
        """Start the call, or start it again where an interrupt came into that: the first thread that gets to it makes it."""
        target = contextvars.copy_context().run
        thread = threading.Thread(target=target, args=[self._main], name=self._name)
        self._threads.append(thread)
        thread.start()
        self._started = True

    def _main(self) -> None:
        if not self._claim.acquire(blocking=False):
            return
        try:
            self._call()
        except BaseException as error:  # noqa: BLE001  raised where it is waited for
            self.error = error
        finally:
            self._done.set()
            self._then()

    def wait(self) -> None:
        """Wait for the call's end and that of its threads."""
        if not self._started:
            self.start()
        self._done.wait()
        for thread in self._threads:
            if thread.ident is not None and thread is not threading.current_thread():
                thread.join()


def undisturbed(call: Callable[[], object], pressed: Callable[[], object] = bool) -> None:
    """Make a call that no interrupt reaches; ``pressed`` is called for each that comes meanwhile, the last is raised at the end.

    Raises:
        KeyboardInterrupt: see above. Whatever the call raises.
    """
    if threading.current_thread() is not threading.main_thread():
        call()
        return
    aside = Aside(call)
    _wait(aside.wait, pressed, PRESSES)
    if aside.error is not None:
        raise aside.error


def _wait(wait: Callable[[], object], pressed: Callable[[], object], presses: int) -> None:
    # Nested, not a loop: the next interrupt may come while the one before it is being handled.
    if not presses:
        wait()
        return
    try:
        _wait(wait, pressed, presses - 1)
    except KeyboardInterrupt:
        pressed()
        wait()
        raise


class Drive:
    """The driving of one run: done once, by whoever comes first; its record is closed to writers at the end, whatever happens."""

    def __init__(self, prepare: Callable[[], tuple[Run, Driver]]) -> None:
        self._prepare = prepare
        self._claim = threading.Lock()
        self._presses = 0
        self._prepared: tuple[Run, Driver] | None = None

    def prepare(self) -> Run:
        """Make the run; what is refused is raised here, before anything runs."""
        self._prepared = run, driver = self._prepare()
        if self._presses:
            driver.cancel(force=self._presses > 1)
        return run

    @property
    def run(self) -> Run:
        assert self._prepared is not None
        return self._prepared[0]

    @property
    def driver(self) -> Driver:
        assert self._prepared is not None
        return self._prepared[1]

    def __call__(self) -> None:
        """Drive on this thread."""
        if not self._claim.acquire(blocking=False):
            return
        run, driver = self.run, self.driver
        try:
            undisturbed(driver.open)
            run._failures = driver.drive().failures
        except FlowcoreError as error:
            run._error = error
        except BaseException as error:
            run._error = error
            raise
        finally:
            undisturbed(self._end)

    def _end(self) -> None:
        run, driver = self.run, self.driver
        try:
            driver.close()
            if run._recorder is not None:
                run._recorder.close()
        except FlowcoreError as error:
            run._error = run._error or error
        finally:
            run._ended.set()
            run._records.end_writing()

    def wait(self) -> None:
        """Drive and wait for the end.

        Raises:
            KeyboardInterrupt: once the run, which it canceled, has ended; a second one cancels exit tasks too.
        """
        if self.driver.on_callers_thread:
            self()
        else:
            undisturbed(self, self.cancel)

    def cancel(self) -> None:
        """Ask for the run's end, also while it is being prepared; a second time for that of its exit tasks too."""
        self._presses += 1
        if self._prepared is not None:
            self._prepared[1].cancel(force=self._presses > 1)

    def abandon(self) -> None:
        """After an interrupt: cancel and end a run whose driving had not begun when it came."""
        if self._prepared is not None and not self._claim.locked():
            self.cancel()
            undisturbed(self)

    def start(self, then: Callable[[], object] = bool) -> Aside:
        """Drive on a thread of its own, after preparing there if that is still to do; ``then`` is called at its end."""
        aside = Aside(self._whole, then, name="flowcore-run")
        aside.start()
        return aside

    def _whole(self) -> None:
        if self._prepared is None:
            self.prepare()
        self()
