"""Pipelines whose bodies meet faults; importable, so that worker processes find them by name."""

from __future__ import annotations

import os
import threading

from flowcore import dsl


@dsl.component
def print_then_wait(text_bytes: int, wait_for: str) -> int:
    """Print that much, then wait until the file is there."""
    print("x" * text_bytes)  # noqa: T201  what a body prints is the subject
    pause = threading.Event()
    while not os.path.exists(wait_for):
        pause.wait(0.05)
    return text_bytes


@dsl.pipeline
def talk(text_bytes: int, wait_for: str) -> int:
    output: int = print_then_wait(text_bytes=text_bytes, wait_for=wait_for).output
    return output


@dsl.component
def echo(x: int) -> int:
    return x


@dsl.pipeline
def loop(items: list) -> None:  # type: ignore[type-arg]
    with dsl.ParallelFor(items) as item:
        echo(x=item)
