"""A file written to and read from S3 as an artifact, beside s3fs's own put and get of the same file on the same server.

The server is moto in a process of its own: figures say what our side adds, not how fast a real bucket is.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from flowcore.artifacts.store import ArtifactStore

_SERVER = """
import logging, sys
from moto.server import ThreadedMotoServer
logging.getLogger("werkzeug").setLevel(logging.ERROR)
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
print(server.get_host_and_port()[1], flush=True)
sys.stdin.read()
server.stop()
"""


@contextmanager
def _server() -> Iterator[str]:
    process = subprocess.Popen([sys.executable, "-c", _SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield f"http://127.0.0.1:{process.stdout.readline().strip()}"
    finally:
        process.stdin.close()
        process.wait(timeout=60)
        process.stdout.close()


def _seconds(call: Callable[[], object]) -> float:
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin


def s3_file(size_bytes: int) -> tuple[float, float]:
    """(our seconds, seconds of bare s3fs) to write and read one file of this size; ours hashes and verifies it.

    Needs twice ``size_bytes`` of disk in the temporary directory, and as much again for the server.
    """
    import s3fs

    with _server() as endpoint_url, tempfile.TemporaryDirectory() as folder:
        # moto copies a whole object before it answers that its upload is complete.
        config = {"read_timeout": 600}
        options = {"key": "bench", "secret": "bench", "endpoint_url": endpoint_url, "config_kwargs": config}
        fs = s3fs.S3FileSystem(**options)
        fs.mkdir("bench")
        source, copy = os.path.join(folder, "source"), os.path.join(folder, "copy")
        _fill(source, size_bytes)
        fs.put_file(source, "bench/warm-up")
        fs.rm_file("bench/warm-up")

        put = _seconds(lambda: fs.put_file(source, "bench/bare"))
        get = _seconds(lambda: fs.get_file("bench/bare", copy))
        fs.rm_file("bench/bare")
        os.unlink(copy)

        with ArtifactStore("s3://bench/runs", options, cache_dir=os.path.join(folder, "cache")) as store:
            execution = store.begin(store.join("run", "task", "1"))
            output = execution.output("data", "system.Dataset")
            os.rename(source, output.path)
            begin = time.perf_counter()
            ref = execution.seal_artifact(output)
            store.fetch(ref)
            ours = time.perf_counter() - begin
    return ours, put + get


def _fill(path: str, size_bytes: int) -> None:
    """Contents that do not repeat and cost little to make."""
    block = os.urandom(1024 * 1024)
    with open(path, "wb") as file:
        for number in range(-(-size_bytes // len(block))):
            file.write(number.to_bytes(8, "big") + block[8:])
        file.truncate(size_bytes)
