"""Models come back; tensors without running code, everything else only where it was recorded as saved here."""

from __future__ import annotations

import pickle
import sys
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from flowcore.artifacts.types import Model
from flowcore.errors import ArtifactError


class Fails:
    """Unpickles nowhere."""

    def __reduce__(self):
        return _fail, ()


def _fail() -> None:
    raise LookupError("no such thing here")


def test_models_come_back(anywhere, passed_on) -> None:
    output = anywhere.output("model", "system.Model")
    output.save({"weights": np.arange(3), "rate": 0.5})
    note = output.metadata["flowcore"]
    assert (note["format"], note["kind"]) == ("joblib", "builtins.dict")
    loaded = passed_on(anywhere, output).load()
    assert (list(loaded["weights"]), loaded["rate"]) == ([0, 1, 2], 0.5)


def test_estimators_come_back_and_say_what_they_were_made_with(anywhere, passed_on) -> None:
    linear = pytest.importorskip("sklearn.linear_model")
    output = anywhere.output("model", "system.Model")
    output.save(linear.LinearRegression().fit([[1], [2]], [2, 4]))
    assert output.metadata["flowcore"]["made_with"][1].startswith("sklearn ")
    assert passed_on(anywhere, output).load().predict([[3]]) == pytest.approx([6])


def test_large_models_are_hashed_as_they_are_written(local, passed_on) -> None:
    output = local.output("model", "system.Model")
    output.save([np.arange(3_000_000)])
    assert output._written is not None
    sealed = passed_on(local, output)
    local._store.verify(sealed._ref)
    assert sealed.load()[0][-1] == 2_999_999


def test_models_are_pickled_without_joblib(local, passed_on, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "joblib", None)
    output = local.output("model", "system.Model")
    output.save({"a": 1})
    assert output.metadata["flowcore"]["format"] == "pickle"
    assert pickle.loads(Path(output.path).read_bytes()) == {"a": 1}
    assert passed_on(local, output).load() == {"a": 1}


@pytest.mark.parametrize("format", ["joblib", "pickle", "safetensors"])
def test_the_format_can_be_chosen(anywhere, passed_on, format: str) -> None:
    output = anywhere.output("model", "system.Model")
    output.save({"w": np.arange(3)}, format=format)
    assert output.metadata["flowcore"]["format"] == format
    assert list(passed_on(anywhere, output).load()["w"]) == [0, 1, 2]


def test_tensors_are_saved_without_code(anywhere, passed_on) -> None:
    state = {
        "layer.weight": np.arange(6, dtype="float32").reshape(2, 3),
        "turned": np.asfortranarray(np.arange(6).reshape(2, 3)),
        "part": np.arange(10)[::2],
        "none": np.empty((0, 2), dtype="float16"),
        "one": np.array(True),
    }
    output = anywhere.output("model", "system.Model")
    output.save(state)
    assert output.metadata["flowcore"]["format"] == "safetensors"
    loaded = passed_on(anywhere, output).load()
    assert loaded.keys() == state.keys()
    for name, array in state.items():
        assert (loaded[name].dtype, loaded[name].shape) == (array.dtype, array.shape)
        assert np.array_equal(loaded[name], array)


@pytest.mark.parametrize(
    "model",
    [{}, {1: np.arange(3)}, *({"a": np.array(odd)} for odd in (["x"], [1j])), OrderedDict(a=np.arange(2))],
    ids=repr,
)
def test_what_safetensors_would_change_is_pickled(local, model: dict) -> None:
    output = local.output("model", "system.Model")
    output.save(model)
    assert output.metadata["flowcore"]["format"] == "joblib"
    loaded = output.load()
    assert type(loaded) is type(model)
    assert repr(loaded) == repr(model)


def test_tensors_are_pickled_without_safetensors(local, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "safetensors", None)
    output = local.output("model", "system.Model")
    output.save({"w": np.arange(3)})
    assert output.metadata["flowcore"]["format"] == "joblib"


def test_what_safetensors_refuses_is_pickled_unless_it_was_asked_for(local, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise RuntimeError("some tensors share memory")

    monkeypatch.setattr(safetensors.numpy, "save_file", refuse)
    output = local.output("model", "system.Model")
    output.save({"w": np.arange(3)})
    assert output.metadata["flowcore"]["format"] == "joblib"
    with pytest.raises(ArtifactError, match="this dict cannot be saved with safetensors: some tensors share memory"):
        output.save({"w": np.arange(3)}, format="safetensors")
    assert not Path(output.path).exists()


def test_what_are_no_tensors_is_refused_for_safetensors(local) -> None:
    with pytest.raises(ArtifactError, match="this list is not a dict of numpy arrays or torch tensors of numbers; use format="):
        local.output("model", "system.Model").save([1], format="safetensors")


def test_unknown_formats_are_named_with_the_known_ones(local) -> None:
    with pytest.raises(ArtifactError, match="'onnx' is not known; use one of joblib, pickle and safetensors"):
        local.output("model", "system.Model").save(1, format="onnx")


@pytest.mark.parametrize(("format", "package"), [("joblib", "joblib"), ("safetensors", "safetensors")])
def test_a_model_whose_package_is_missing_says_what_to_install(local, monkeypatch, format: str, package: str) -> None:
    output = local.output("model", "system.Model")
    output.save({"a": np.arange(3)}, format=format)
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.delitem(sys.modules, "safetensors.numpy", raising=False)
    with pytest.raises(ArtifactError, match=f"{package} is not installed here and this artifact needs it; Install {package}"):
        output.load()


def test_what_cannot_be_pickled_is_named(local) -> None:
    output = local.output("model", "system.Model")
    with pytest.raises(ArtifactError, match=r"'model': this function cannot be saved with joblib"):
        output.save(lambda: 1)
    assert not Path(output.path).exists()


@pytest.mark.parametrize("format", ["joblib", "pickle"])
def test_what_cannot_be_unpickled_says_what_it_was_made_with(local, format: str) -> None:
    output = local.output("model", "system.Model")
    output.save(Fails(), format=format)
    text = r"LookupError: no such thing here; install what its task had, in the same versions \(Python \d"
    with pytest.raises(ArtifactError, match=text):
        output.load()


def test_a_changed_model_is_not_unpickled(anywhere, passed_on) -> None:
    output = anywhere.output("model", "system.Model")
    output.save([1], format="pickle")
    sealed = passed_on(anywhere, output)
    place = anywhere._store._files
    place.remove(sealed.uri)
    place.write(sealed.uri, pickle.dumps(Fails())[:30].ljust(sealed._ref.size_bytes, b"."))
    with pytest.raises(ArtifactError, match="'model' has changed"):
        sealed.load()


def test_what_save_did_not_save_is_not_unpickled(tmp_path: Path) -> None:
    model = Model("m", str(tmp_path / "model.pkl"))
    (tmp_path / "model.pkl").write_bytes(pickle.dumps(Fails()))
    with pytest.raises(ArtifactError, match=r"not written by Model.save"):
        model.load()


def test_safetensors_of_others_are_loaded_by_their_suffix(tmp_path: Path) -> None:
    safetensors.numpy.save_file({"w": np.arange(3)}, tmp_path / "m.safetensors")
    assert list(Model("m", str(tmp_path / "m.safetensors")).load()["w"]) == [0, 1, 2]


def test_inputs_are_not_saved_to(local, passed_on) -> None:
    output = local.output("model", "system.Model")
    output.save(1)
    with pytest.raises(ArtifactError, match="is an input"):
        passed_on(local, output).save(2)
