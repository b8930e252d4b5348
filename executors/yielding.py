"""A lock for short steps of threads that share the interpreter: who finds it taken lets others run and tries again.

One that is waited for would be owned by its next owner before that one has the interpreter: each step would then cost a switch.
"""

from __future__ import annotations

import threading
import time

#: How often another thread is let run at once before this one really sleeps.
_TURNS = 20
_NAP_SECONDS = 0.0002


class YieldingLock:
    """Not reentrant, not fair."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        turns = 0
        while not self._lock.acquire(blocking=False):
            turns += 1
            time.sleep(0 if turns < _TURNS else _NAP_SECONDS)

    def __exit__(self, *_: object) -> None:
        self._lock.release()
