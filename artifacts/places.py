"""URIs taken apart, path segments checked, file systems opened, their failures told. Never reads or writes contents."""

from __future__ import annotations

import errno
import importlib
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from flowcore.artifacts.retries import is_transient
from flowcore.artifacts.storage_options import masked, resolved
from flowcore.errors import ArtifactError, FlowcoreError, StorageError

MAX_SEGMENT_BYTES = 200
LOCAL = frozenset({"file", "local"})
WITHOUT_DIRECTORIES = frozenset({"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "adl", "oss", "oci", "memory"})
"""Stores that need no parent directory; asking s3fs for one would create a mistyped bucket."""

_WITH_LISTINGS_CACHE = frozenset({"s3", "s3a", "gs", "gcs"})
_EXTRAS = {"s3": "flowcore[s3]", "s3a": "flowcore[s3]"}
_ELSEWHERE = "choose another pipeline_root (for fetched copies another fetch_cache, for temporary files another TMPDIR)"
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_REMEDIES = {
    errno.EACCES: "give this user write permission there, or choose another pipeline_root",
    errno.EPERM: "give this user write permission there, or choose another pipeline_root",
    errno.EROFS: "this file system is read-only: choose another pipeline_root",
    errno.ENOTDIR: "a part of this path is a file: choose another pipeline_root",
    errno.EEXIST: "there is a file of this name: choose another pipeline_root",
    errno.ENOSPC: f"the disk is full: free some space, or {_ELSEWHERE}",
    errno.EDQUOT: f"the quota is used up: free some space, or {_ELSEWHERE}",
    errno.ENAMETOOLONG: "the path is too long: choose a shorter pipeline_root",
}
_REMOTE_REMEDY = "check the address, that the bucket or server exists, and the credentials (storage_options=)"
_PASSING_REMEDY = "it was tried again and failed again: check the address and the network, and try later"
_REMOTE_REMEDIES = {
    "FileNotFoundError": "create the bucket or folder, or check its name",
    "PermissionError": "check the credentials (storage_options=) and that they may read, write, list and delete there",
    "NoCredentialsError": "give credentials in storage_options=, or in the storage's own environment variables",
}
"""By the name of the exception or of a class it inherits from."""

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.\-]*)(?:://|::)")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def protocol_of(uri: str) -> str:
    """"file" for local paths and file:// URLs, else the scheme."""
    match = _SCHEME.match(uri)
    return "file" if match is None or match[1] in LOCAL else match[1]


def local_path(uri: str) -> str | None:
    """The local path that ``uri`` names, as it is written; None where it is not local."""
    match = _SCHEME.match(uri)
    if match is None:
        return uri.removeprefix("file:") if uri.startswith("file:/") else uri
    return uri[match.end() :] if match[1] in LOCAL else None


def normal_root(root: str) -> str:
    """An absolute local path without scheme, or a URL without trailing slash.

    Raises:
        StorageError: the root is empty.
    """
    path = local_path(root)
    if not root or path == "":
        raise StorageError(f"pipeline_root {root!r} names no place; give a directory or a URL such as 's3://bucket/runs'")
    if path is not None:
        return os.path.abspath(os.path.expanduser(path))
    scheme, separator, rest = root.partition("://")
    return scheme + separator + rest.rstrip("/")


def file_name(uri: str) -> str:
    """The last segment of ``uri`` without query, fit to be a local file name."""
    name = uri.rstrip("/").rpartition("/")[2]
    if protocol_of(uri) in ("http", "https"):
        name = name.partition("?")[0].partition("#")[0]
    return "contents" if name in ("", ".", "..") or "\0" in name else name


def check_segment(part: str) -> str:
    """``part`` itself, if it can be one segment of a path everywhere.

    Raises:
        ArtifactError: it cannot; the message says why and what to do.
    """
    problem = None
    if part in ("", ".", ".."):
        problem = "is no name"
    elif "/" in part or "\\" in part:
        problem = "holds a slash"
    elif _CONTROL.search(part):
        problem = "holds a control character"
    else:
        try:
            size_bytes = len(part.encode())
        except UnicodeEncodeError:
            problem = "is not Unicode text"
        else:
            if size_bytes > MAX_SEGMENT_BYTES:
                problem = f"is {size_bytes} bytes long, more than {MAX_SEGMENT_BYTES}"
    if problem is not None:
        shown = part if len(part) <= 40 else part[:40] + "…"
        raise ArtifactError(f"{shown!r} cannot be part of an artifact's URI: it {problem}; rename it")
    return part


def open_filesystem(url: str, options: Mapping[str, Any]) -> tuple[Any, str]:
    """The fsspec file system of ``url`` and the path in it. References in ``options`` to secrets are resolved here.

    Raises:
        StorageError: the protocol is not known, its driver is not installed, a secret is missing, or it refuses the options.
    """
    protocol = protocol_of(url)
    defaults = {"use_listings_cache": False} if protocol in _WITH_LISTINGS_CACHE else {}
    values = resolved(options, url)
    # A cause is shown with its own text: it is left out where that holds a secret.
    try:
        fs, path = importlib.import_module("fsspec.core").url_to_fs(url, **{**defaults, **values})
    except ImportError as error:
        raise StorageError(f"{url!r}: the driver for {protocol}:// is not installed ({error}); {_install(protocol)}") from error
    except ValueError as error:
        if "not known" not in str(error):
            told = masked(reason(error), options, values)
            raise _unopened(url, told, error) from (error if told == reason(error) else None)
        text = f"{url!r}: no file system is known for {protocol}://; use a directory, s3:// or another protocol of fsspec"
        raise StorageError(text) from error
    except Exception as error:  # noqa: BLE001  drivers raise what they like
        told = masked(reason(error), options, values)
        raise _unopened(url, told, error) from (error if told == reason(error) else None)
    return fs, str(path)


def _unopened(url: str, told: str, error: Exception) -> StorageError:
    return StorageError(f"{url!r} cannot be opened: {told}; {_remedy(url, error)}")


@contextmanager
def reading(place: str) -> Iterator[None]:
    """Failures to read ``place`` as StorageError; a missing file stays FileNotFoundError."""
    try:
        yield
    except (FileNotFoundError, FlowcoreError):
        raise
    except Exception as error:
        raise StorageError(f"{place!r} cannot be read: {reason(error)}; {_remedy(place, error)}") from error


@contextmanager
def writing(place: str) -> Iterator[None]:
    """Failures to write ``place`` as StorageError."""
    try:
        yield
    except FlowcoreError:
        raise
    except Exception as error:
        raise StorageError(f"{place!r} cannot be written: {reason(error)}; {_remedy(place, error)}") from error


def reason(error: BaseException) -> str:
    """An exception as one phrase, with its notes."""
    notes = [*getattr(error, "__notes__", ())]
    text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return f"{text} ({'; '.join(notes)})" if notes else text


def _remedy(place: str, error: Exception) -> str:
    number = error.errno if isinstance(error, OSError) else None
    if local_path(place) is None and number not in _FULL:
        if is_transient(error):
            return _PASSING_REMEDY
        names = {kind.__name__ for kind in type(error).__mro__}
        return next((remedy for name, remedy in _REMOTE_REMEDIES.items() if name in names), _REMOTE_REMEDY)
    return _REMEDIES.get(number or 0, "choose another pipeline_root, or repair this one")


def _install(protocol: str) -> str:
    if protocol in _EXTRAS:
        return f"Install {_EXTRAS[protocol]} to use {protocol}://"
    known = importlib.import_module("fsspec.registry").known_implementations.get(protocol, {})
    package = str(known.get("class", "")).partition(".")[0]
    return f"Install the package {package!r} to use {protocol}://" if package not in ("", "fsspec") else "install what it names"
