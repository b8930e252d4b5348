"""One file up to a storage or down from it, in parts, hashed on the way: each byte is read once and memory stays bounded.

An upload that fails is aborted, never completed: s3fs would complete it when an exception leaves ``with fs.open(...)``.
"""

from __future__ import annotations

import hashlib
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

from flowcore.artifacts.digests import Entry, check_unchanged
from flowcore.artifacts.places import writing
from flowcore.artifacts.retries import ShortRead, again

PART_BYTES = 8 * 1024 * 1024
"""A file up to this size goes up in one request; no file system that knows parts wants them smaller than 5 MiB."""
PARTS_AT_ONCE = 4
FILES_AT_ONCE = 8
RANGE_BYTES = 64 * 1024 * 1024
"""A file up to this size comes down in one request: some servers read a whole object for each range of it."""
RANGES_AT_ONCE = 3
"""In memory are at most 32 MiB of a large file going up, 192 MiB of one coming down, 64 MiB of many small ones; drivers copy."""

_MAX_PARTS = 10_000

T = TypeVar("T")
Given = TypeVar("Given")


def upload(fs: Any, entry: Entry, target: str, what: str) -> tuple[int, str]:
    """Send a local file as ``target``; (size in bytes, sha256) of what was sent.

    Raises:
        ArtifactError: the file changed while it was read.
        Exception: the storage's own, after the last try; nothing was completed under the name.
    """
    with open(entry.path, "rb") as source:
        if entry.size_bytes <= PART_BYTES:
            data = source.read(PART_BYTES + 1)
            check_unchanged(source, entry, what)
            again(lambda: fs.pipe_file(target, data))
            return len(data), hashlib.sha256(data).hexdigest()
        digest = hashlib.sha256()
        parts = _hashed(source, digest, max(PART_BYTES, -(-entry.size_bytes // _MAX_PARTS)))
        send = _send_s3_parts if hasattr(fs, "call_s3") else _send_stream
        send(fs, target, parts, entry.size_bytes, lambda: check_unchanged(source, entry, what))
    return entry.size_bytes, digest.hexdigest()


def download(fs: Any, path: str, size_bytes: int, target: str | None) -> tuple[int, str]:
    """Read a file of this size, into ``target`` where given; (size in bytes, sha256) of what came.

    Raises:
        Exception: the storage's own, after the last try.
        StorageError: ``target`` cannot be written.
    """
    digest = hashlib.sha256()
    with _opened(target) as write:
        for data in _parts_of(fs, path, size_bytes):
            digest.update(data)
            write(data)
    return size_bytes, digest.hexdigest()


def each(call: Callable[[Given], T], items: Iterable[Given], at_once: int = FILES_AT_ONCE) -> list[T]:
    """``call`` of each item, several at once, results in order; the first failure cancels what has not begun."""
    waiting = list(items)
    if len(waiting) < 2:
        return [call(item) for item in waiting]
    with _pool(min(at_once, len(waiting))) as pool:
        return list(pool.map(call, waiting))


@contextmanager
def _pool(workers: int) -> Iterator[ThreadPoolExecutor]:
    """Ends with nothing of it running, whatever happened."""
    pool = ThreadPoolExecutor(workers, thread_name_prefix="flowcore-transfer")
    try:
        yield pool
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _hashed(source: Any, digest: Any, part_bytes: int) -> Iterator[bytes]:
    while data := source.read(part_bytes):
        digest.update(data)
        yield data


def _windowed(pool: ThreadPoolExecutor, call: Callable[[Given], T], items: Iterable[Given], at_once: int) -> Iterator[T]:
    """Results in order, with at most ``at_once`` items under way."""
    running: deque[Future[T]] = deque()
    for item in items:
        running.append(pool.submit(call, item))
        if len(running) >= at_once:
            yield running.popleft().result()
    while running:
        yield running.popleft().result()


def _send_s3_parts(fs: Any, target: str, parts: Iterator[bytes], size_bytes: int, check: Callable[[], None]) -> None:
    bucket, key, _ = fs.split_path(target)
    place = {"Bucket": bucket, "Key": key}
    place["UploadId"] = again(lambda: fs.call_s3("create_multipart_upload", **place))["UploadId"]

    def send(numbered: tuple[int, bytes]) -> dict[str, Any]:
        number, data = numbered
        answer = again(lambda: fs.call_s3("upload_part", PartNumber=number, Body=data, **place))
        # Servers that check a part's digest want it again at the end.
        sums = {name: value for name, value in answer.items() if name.startswith("Checksum") and name != "ChecksumType"}
        return {"PartNumber": number, "ETag": answer["ETag"], **sums}

    try:
        with _pool(PARTS_AT_ONCE) as pool:
            sent = list(_windowed(pool, send, enumerate(parts, 1), PARTS_AT_ONCE))
        check()
        _complete(fs, target, place, sent, size_bytes)
    except BaseException as error:
        _abort(fs, target, place, error)
        raise
    finally:
        _sweep(fs, place)


def _complete(fs: Any, target: str, place: dict[str, Any], sent: list[dict[str, Any]], size_bytes: int) -> None:
    try:
        again(lambda: fs.call_s3("complete_multipart_upload", MultipartUpload={"Parts": sent}, **place))
    except Exception:
        # An earlier try may be done and its answer lost, and servers tell the later ones all sorts of things.
        if not _is_there(fs, target, size_bytes):
            raise


def _is_there(fs: Any, target: str, size_bytes: int) -> bool:
    """Whether an object of this size has the name: names are used once, so it is what we sent."""
    with suppress(Exception):
        fs.invalidate_cache(target)
        return bool(again(lambda: fs.info(target))["size"] == size_bytes)
    return False


def _abort(fs: Any, target: str, place: dict[str, Any], error: BaseException) -> None:
    try:
        with suppress(FileNotFoundError):
            again(lambda: fs.call_s3("abort_multipart_upload", **place))
    except Exception as other:  # noqa: BLE001  the first failure is the one to tell
        error.add_note(f"its multipart upload {place['UploadId']} could not be aborted ({other}); abort it in {target!r} by hand")


def _sweep(fs: Any, place: dict[str, Any]) -> None:
    """Abort what lost answers left under this key: parts are in no listing, cost money, and names are used once."""
    bucket, key = place["Bucket"], place["Key"]
    with suppress(Exception):
        for upload in fs.call_s3("list_multipart_uploads", Bucket=bucket, Prefix=key).get("Uploads", []):
            if upload["Key"] == key:
                fs.call_s3("abort_multipart_upload", Bucket=bucket, Key=key, UploadId=upload["UploadId"])


def _send_stream(fs: Any, target: str, parts: Iterator[bytes], size_bytes: int, check: Callable[[], None]) -> None:
    file = fs.open(target, "wb")
    try:
        for data in parts:
            file.write(data)
        check()
    except BaseException:
        # Closing would complete it, and so would the file's end as an object.
        with suppress(Exception):
            file.discard()
        with suppress(Exception):
            file.closed = True
        with suppress(Exception):
            fs.rm_file(target)
        raise
    file.close()


def _parts_of(fs: Any, path: str, size_bytes: int) -> Iterator[bytes]:
    def read(start: int) -> bytes:
        return again(lambda: _read_range(fs, path, start, min(start + RANGE_BYTES, size_bytes)))

    if size_bytes <= RANGE_BYTES:
        yield read(0) if size_bytes else b""
        return
    with _pool(RANGES_AT_ONCE) as pool:
        yield from _windowed(pool, read, range(0, size_bytes, RANGE_BYTES), RANGES_AT_ONCE)


def _read_range(fs: Any, path: str, start: int, end: int) -> bytes:
    data: bytes = fs.cat_file(path, start=start, end=end)
    if len(data) != end - start:
        raise ShortRead(f"{len(data)} bytes of {end - start} came, from byte {start} on")
    return data


@contextmanager
def _opened(target: str | None) -> Iterator[Callable[[bytes], object]]:
    if target is None:
        yield len
        return
    with writing(target):
        os.makedirs(os.path.dirname(target), exist_ok=True)
        file = open(target, "wb")  # noqa: SIM115  closed below, where its failure has a name

    def write(data: bytes) -> None:
        with writing(target):
            file.write(data)

    try:
        yield write
        with writing(target):
            file.close()
    finally:
        with suppress(OSError):
            file.close()
