"""Workers that take orders from one queue: threads of this process, or processes driven by a thread each.

An attempt is in ``_live`` from its submit to its end; whoever takes it out reports that end, so each is reported once, whether
the body, a cancel or the close comes first.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import queue
import signal
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable
from tempfile import TemporaryFile
from typing import IO, Protocol

from flowcore.capture import capturing
from flowcore.executor import Event, Finished, Lost, Outcome, Output, Started, Status, WorkOrder, event_from_json
from flowcore.wire import receive, send
from flowcore.worker import Stores, run_order, task_error

Report = Callable[[Event], None]
#: How long a silent socket is waited for before its process is looked at: one second, as a C timeval.
_LOOK = struct.pack("ll", 1, 0)


class Worker(Protocol):
    """Runs orders one after another, on the thread that calls it."""

    def begin(self) -> None:
        """An order is about to run: from here on ``kill`` means that one."""

    def run(self, order: WorkOrder, report: Report) -> Finished | Lost: ...

    def kill(self) -> bool:
        """End the running body now; False where that is impossible."""

    def close(self) -> None: ...


class ThreadWorker:
    """Runs bodies on the serving thread itself."""

    def __init__(self, stores: Stores) -> None:
        self._stores = stores

    def begin(self) -> None:
        pass

    def run(self, order: WorkOrder, report: Report) -> Finished | Lost:
        try:
            outcome = run_order(order, report, self._stores, where=threading.current_thread().name)
        except KeyboardInterrupt as error:
            # Only a body can raise it here, so it is a result: the terminal's goes to the main thread.
            outcome = Outcome(Status.FAILED, error=task_error(error))
        return Finished(order.attempt_id, outcome)

    def kill(self) -> bool:
        return False

    def close(self) -> None:
        pass


class ProcessWorker:
    """Drives one ``python -m flowcore.worker``, started on the first order and again after it has died."""

    def __init__(self, stores: Stores) -> None:
        self._stores = stores
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: socket.socket | None = None
        #: What the process writes to its file descriptors 1 and 2.
        self._raw: dict[str, IO[bytes]] = {}
        #: Guards the two below against ``kill``, which comes from other threads.
        self._lock = threading.Lock()
        self._killed = False

    def begin(self) -> None:
        self._killed = False

    def run(self, order: WorkOrder, report: Report) -> Finished | Lost:
        started = False
        try:
            connection = self._connect()
            send(connection, order)
        except OSError as error:
            self.close()
            return Lost(order.attempt_id, f"the worker process cannot be reached: {error}", started=False)
        while (message := receive(connection, self._lives)) is not None:
            event = event_from_json(message)
            if isinstance(event, Finished):
                self._report_raw(order, report)
                return event
            started = started or isinstance(event, Started)
            report(event)
        reason = self._death()
        self._report_raw(order, report)
        self.close()
        return Lost(order.attempt_id, reason, started)

    def _report_raw(self, order: WorkOrder, report: Report) -> None:
        """Report what was written past Python's streams: by child processes, C code, a dying interpreter."""
        for stream, file in self._raw.items():
            if os.fstat(file.fileno()).st_size:
                file.seek(0)
                while part := file.read(1 << 20):
                    report(Output(order.attempt_id, stream, part.decode("utf-8", "replace")))
                file.truncate(0)

    def _connect(self) -> socket.socket:
        if self._connection is not None and self._lives():
            return self._connection
        self.close()
        ours, theirs = socket.socketpair()
        self._connection = ours
        self._raw = {stream: _appended_file() for stream in ("stdout", "stderr")}
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _LOOK)
        with theirs:
            restore = {"PYTHONPATH": os.environ.get("PYTHONPATH"), "PYTHONSAFEPATH": os.environ.get("PYTHONSAFEPATH")}
            path = [os.path.abspath(entry) for entry in sys.path]
            process = subprocess.Popen(
                [sys.executable, "-m", "flowcore.worker", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=self._raw["stdout"],
                stderr=self._raw["stderr"],
                env={**os.environ, "PYTHONPATH": os.pathsep.join(path), "PYTHONSAFEPATH": "1"},
                # A Ctrl-C at the terminal is for the driver, which then tells its workers.
                start_new_session=True,
            )
        with self._lock:
            self._process = process
            if self._killed:  # while it was being started
                _end_group(process)
        send(ours, {"sys_path": path, "restore_env": restore, "private_dir": self._stores.private_dir()})
        return ours

    def _lives(self) -> bool:
        # Asked for besides the socket's end: a child that a body forked may hold the socket open after its parent's death.
        return self._process is not None and self._process.poll() is None

    def _death(self) -> str:
        process = self._process
        if process is None:
            return "its worker process is gone"
        code = process.wait()
        if code < 0:
            return f"worker process {process.pid} was killed by {signal.Signals(-code).name}"
        return f"worker process {process.pid} ended with exit code {code}"

    def kill(self) -> bool:
        with self._lock:
            self._killed = True
            if self._process is not None:
                _end_group(self._process)
        return True

    def close(self) -> None:
        with self._lock:
            connection, process = self._connection, self._process
            self._connection = self._process = None
        if connection is not None:
            connection.close()
        if process is not None:
            _end_group(process)  # between orders it holds nothing; within one it was told to end
            process.wait()
        for file in self._raw.values():
            file.close()
        self._raw = {}


def _appended_file() -> IO[bytes]:
    """A file without a name whose writers always append, so that what follows a truncation begins at its start."""
    file = TemporaryFile("w+b")  # noqa: SIM115  it lives as long as the worker process
    flags = fcntl.fcntl(file.fileno(), fcntl.F_GETFL)
    fcntl.fcntl(file.fileno(), fcntl.F_SETFL, flags | os.O_APPEND)
    return file


def _end_group(process: subprocess.Popen[bytes]) -> None:
    """Kill a worker, which leads a group of its own, and what its bodies left running there."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)


class Pool:
    """Up to ``workers`` serving threads, started as orders come."""

    def __init__(self, report: Report, workers: int, kind: Callable[[Stores], Worker]) -> None:
        self._report = report
        self._size = workers
        self._kind = kind
        self._queue: queue.SimpleQueue[WorkOrder | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        #: The worker that runs each known attempt, None while it waits in the queue.
        self._live: dict[str, Worker | None] = {}
        self._killed: dict[str, Finished | Lost] = {}
        self._threads: dict[threading.Thread, Worker] = {}
        self._idle = 0
        self._closed = False
        self._stores = Stores()
        self._capture = capturing()
        self._capture.__enter__()

    def submit(self, order: WorkOrder) -> None:
        """Take an order; a known attempt is not started again."""
        with self._lock:
            if self._closed or order.attempt_id in self._live:
                return
            self._live[order.attempt_id] = None
            self._queue.put(order)
            self._grow()

    def _grow(self) -> bool:
        """Start one more thread where an order waits for one."""
        wanted = self._queue.qsize() > self._idle and len(self._threads) < self._size and not self._closed
        if wanted:
            worker = self._kind(self._stores)
            thread = threading.Thread(target=self._serve, args=[worker], name=f"flowcore-{len(self._threads)}", daemon=True)
            thread.start()  # it waits for the lock that we hold
            self._threads[thread] = worker
            self._idle += 1
        return wanted

    def _serve(self, worker: Worker) -> None:
        me = threading.current_thread()
        try:
            while (order := self._queue.get()) is not None:
                attempt_id = order.attempt_id
                with self._lock:
                    if self._closed or attempt_id not in self._live:
                        continue
                    self._live[attempt_id] = worker
                    worker.begin()
                    self._idle -= 1
                    self._grow()  # an order that came while we took this one counted on us
                end = self._run(worker, order)
                with self._lock:
                    kept = me in self._threads
                    self._idle += kept
                    end = self._killed.pop(attempt_id, end)
                    known = self._live.pop(attempt_id, None) is not None
                if known:
                    self._report(end)
                if not kept:
                    return
        finally:
            worker.close()

    def _run(self, worker: Worker, order: WorkOrder) -> Finished | Lost:
        try:
            return worker.run(order, self._while_live(order.attempt_id))
        except Exception as error:  # noqa: BLE001  such as options that are not JSON: nobody else would report this attempt's end
            worker.close()
            return Finished(order.attempt_id, Outcome(Status.FAILED, error=task_error(error)))

    def _while_live(self, attempt_id: str) -> Report:
        def report(event: Event) -> None:
            if attempt_id in self._live:
                self._report(event)

        return report

    def cancel(self, attempt_id: str) -> None:
        """End an attempt: a queued one at once, one in a process by killing it; a thread's body is left and said so."""
        canceled = Outcome(Status.CANCELED)
        with self._lock:
            if attempt_id not in self._live:
                return
            worker = self._live[attempt_id]
            if worker is not None and self._stop(worker, Finished(attempt_id, canceled)):
                return
            # Under the same lock: a thread that has just taken the order from the queue must not begin it now.
            del self._live[attempt_id]
        self._report(Finished(attempt_id, canceled, outlived=worker is not None))

    def _stop(self, worker: Worker, end: Finished | Lost) -> bool:
        """Kill a worker, whose thread then reports ``end``; False where it runs on in a thread that we let go."""
        self._killed[end.attempt_id] = end
        if worker.kill():
            return True
        del self._killed[end.attempt_id]
        serving = [thread for thread, served in self._threads.items() if served is worker]
        for thread in serving:
            del self._threads[thread]
        return False

    def work(self) -> bool:
        """Nothing is done on the caller's thread but to fill the places of bodies that were let go.

        Not at once, in ``cancel``: what waits may be about to be canceled too.
        """
        with self._lock:
            while self._grow():
                pass
        return False

    def close(self) -> None:
        """End everything; only bodies that no thread can stop run on."""
        reason = "the executor was closed"
        with self._lock:
            self._closed = True
            ends: list[Lost] = []
            for attempt_id, worker in list(self._live.items()):
                end = Lost(attempt_id, reason, started=worker is not None)
                if worker is None or not self._stop(worker, end):
                    del self._live[attempt_id]
                    ends.append(end)
            threads = list(self._threads)
        for end in ends:
            self._report(end)
        for _ in threads:
            self._queue.put(None)
        for thread in threads:
            thread.join()
        self._stores.close()
        self._capture.__exit__(None, None, None)
