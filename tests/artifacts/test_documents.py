"""Arrays, JSON, text, bytes and figures, through files and back."""

from __future__ import annotations

import datetime
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from matplotlib.figure import Figure

from flowcore.artifacts.types import Artifact
from flowcore.errors import ArtifactError

ARRAYS = [
    np.arange(6).reshape(2, 3),
    np.asfortranarray(np.arange(6).reshape(2, 3)),
    np.arange(10)[::2],
    np.array(3),
    np.empty((0, 3)),
    np.array(["a", "bc"]),
    np.array(["2020-01-01"], "M8[D]"),
    np.array([(1, 2.0)], dtype=[("ü", "i4"), ("b", "f8", (2,))]),
    np.array([1 + 2j]),
    np.arange(3, dtype=">i4"),
    np.array([b"", b""]),
]


@pytest.mark.parametrize("array", ARRAYS, ids=repr)
def test_arrays_keep_dtype_shape_and_values(anywhere, round_trip, array: np.ndarray) -> None:
    read = round_trip(anywhere, array)
    assert type(read) is np.ndarray
    assert (read.dtype, read.shape) == (array.dtype, array.shape)
    assert np.array_equal(read, array)


def test_arrays_are_memory_mapped_and_changes_stay_with_the_reader(local, passed_on) -> None:
    output = local.output("data", "system.Dataset")
    output.write(np.arange(1000))
    artifact = passed_on(local, output)
    mine, other = artifact.read(), artifact.read()
    assert isinstance(mine.base, np.memmap)
    mine[:] = 0
    assert other.sum() == artifact.read().sum() == 499_500


def test_mapped_arrays_can_be_written_on(local, round_trip, tmp_path: Path) -> None:
    mapped = np.memmap(tmp_path / "raw", dtype="i4", mode="w+", shape=(3,))
    mapped[:] = 7
    assert round_trip(local, mapped).tolist() == [7, 7, 7]


@pytest.mark.parametrize("dtype", ["object", [("a", "O")]])
def test_arrays_of_objects_are_refused_as_code(local, dtype: Any) -> None:
    with pytest.raises(ArtifactError, match=r"holds Python objects, which a file can keep only as code; convert it with .astype"):
        local.output("data", "system.Dataset").write(np.empty(1, dtype=dtype))


def test_a_pickle_in_an_array_s_file_is_not_run(local) -> None:
    output = local.output("data", "system.Dataset")
    output.write(np.arange(3))
    path = Path(output.path)
    path.unlink()
    np.save(path, np.array([object()], dtype=object), allow_pickle=True)
    path.with_suffix(".npy").rename(path)
    with pytest.raises(ArtifactError, match="cannot be read as npy"):
        output.read()


DTYPES, SHAPES = arrays.array_dtypes() | arrays.scalar_dtypes(), arrays.array_shapes(min_dims=0, min_side=0, max_side=3)


@given(array=arrays.arrays(DTYPES, SHAPES))
def test_any_array_comes_back(tmp_path_factory: pytest.TempPathFactory, array: np.ndarray) -> None:
    artifact = Artifact(uri=str(tmp_path_factory.mktemp("any") / "data"))
    artifact.write(array)
    read = artifact.read()
    assert (read.dtype, read.shape, read.tobytes()) == (array.dtype, array.shape, array.tobytes())


NESTED = {"a": [1, 2.5, None, True, "ü\ud800", {"": -0.0}]}


@pytest.mark.parametrize("data", [{}, [], NESTED, "", "a\r\nü\0", b"", b"\0\xff", bytearray(b"x")])
def test_documents_come_back_as_what_they_were(anywhere, round_trip, data: object) -> None:
    read = round_trip(anywhere, data)
    assert read == data
    assert type(read) is type(data)


def test_nan_and_the_infinities_stay_floats(local, round_trip) -> None:
    nan, *rest = round_trip(local, [math.nan, math.inf, -math.inf])
    assert math.isnan(nan)
    assert rest == [math.inf, -math.inf]


def test_numpy_scalars_become_numbers_and_tuples_lists(local, round_trip) -> None:
    read = round_trip(local, {"auc": np.float32(0.5), "rows": np.int64(3), "ok": np.bool_(True), "shape": (2, 3)})
    assert read == {"auc": 0.5, "rows": 3, "ok": True, "shape": [2, 3]}
    assert [type(value) for value in read.values()] == [float, int, bool, list]


LOOP: list[Any] = []
LOOP.append(LOOP)


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ({"a": {1: 2}}, r"the key 1 at \['a'\] is a int, and the keys of JSON are text; make it str"),
        ([0, {"b": datetime.datetime(2020, 1, 1)}], r"what is at \[1\]\['b'\] is a datetime.datetime, .*isoformat"),
        ({"w": np.arange(3)}, r"what is at \['w'\] is a numpy.ndarray, which JSON does not have; convert it with .tolist"),
        (LOOP, "it contains itself or is over 100 deep"),
        ([10**5000], "Exceeds the limit"),
    ],
    ids=["key", "time", "array", "loop", "digits"],
)
def test_what_json_does_not_have_is_refused_by_its_place(local, bad: object, reason: str) -> None:
    with pytest.raises(ArtifactError, match=f"cannot be written as json: {reason}"):
        local.output("data", "system.Dataset").write(bad)


def test_text_that_is_no_unicode_is_refused(local) -> None:
    with pytest.raises(ArtifactError, match=r"this str cannot be written as text: .*surrogates not allowed"):
        local.output("data", "system.Dataset").write("\ud800")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=10,
)


@given(data=st.lists(JSON, max_size=3) | st.dictionaries(st.text(), JSON, max_size=3))
def test_any_json_comes_back(tmp_path_factory: pytest.TempPathFactory, data: Any) -> None:
    artifact = Artifact(uri=str(tmp_path_factory.mktemp("any") / "data"))
    artifact.write(data)
    # nan is not equal to itself: compared as text, which also tells -0.0 from 0.0 and 1 from True.
    assert repr(artifact.read()) == repr(data)


@pytest.fixture
def figure() -> Figure:
    made = Figure(figsize=(2, 1), dpi=50)
    made.subplots().plot([1, 2])
    return made


@pytest.mark.parametrize(("format", "start"), [(None, b"\x89PNG"), ("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF-")])
def test_figures_become_images_and_are_read_as_bytes(anywhere, round_trip, figure: Figure, format: str | None, start) -> None:
    assert round_trip(anywhere, figure, format).startswith(start)


def test_images_can_be_read_as_pixels_and_svg_as_text(local, round_trip, figure: Figure) -> None:
    assert round_trip(local, figure, as_="numpy").shape == (50, 100, 4)
    assert "</svg>" in round_trip(local, figure, "svg", as_="text")


def test_the_same_figure_is_the_same_pdf_later(local, round_trip, figure: Figure, monkeypatch: pytest.MonkeyPatch) -> None:
    first = round_trip(local, figure, "pdf")
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "86400")
    assert round_trip(local, figure, "pdf") == first


def test_unknown_image_formats_are_refused(local, figure: Figure) -> None:
    with pytest.raises(ArtifactError, match=r"'jpg' is not known for a matplotlib.Figure; use png, svg or pdf"):
        local.output("data", "system.Artifact").write(figure, format="jpg")
