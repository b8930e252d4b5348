"""numpy arrays as .npy files, mapped into memory when they are read. Arrays of objects are refused: they would be code."""

from __future__ import annotations

from typing import Any

from flowcore.artifacts.formats.registry import Format, Kind, Record, package, read_bytes
from flowcore.artifacts.hashed_file import HashedFile
from flowcore.errors import ArtifactError


def _write(array: Any, file: HashedFile) -> None:
    npy = package("numpy.lib.format")
    # Names of fields decide: numpy warns where it has to find that out itself.
    version = None if repr(npy.dtype_to_descr(array.dtype)).isascii() else (3, 0)
    npy.write_array(file, array, version, allow_pickle=False)


def _read(path: str, record: Record) -> Any:
    # "c": the reader may change its array, and the file stays as it is.
    numpy = package("numpy")
    return numpy.asarray(numpy.load(path, mmap_mode="c", allow_pickle=False))


def _of_array(array: Any, format: str) -> tuple[Any, dict[str, Any]]:
    if array.dtype.hasobject:
        text = f"its dtype {array.dtype} holds Python objects, which a file can keep only as code"
        raise ArtifactError(f"{text}; convert it with .astype(...) or .tolist()")
    return package("numpy").asarray(array), {}


_REMEDY = "convert it, or write to .path yourself"

FORMATS = {
    "npy": Format(_write, str, {"numpy": _read, "bytes": read_bytes}, (".npy",), b"\x93NUMPY"),
}
KINDS = {
    "numpy.ndarray": Kind(("npy",), _of_array, "numpy", _REMEDY),
    "numpy.memmap": Kind(("npy",), _of_array, "numpy", _REMEDY),
}
