"""How a function reaches a worker: digests, by reference and by value, in this process and in a fresh one."""

from __future__ import annotations

import hashlib
import importlib
import json
import secrets
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from flowcore import dsl
from flowcore.code import code_ref, load_function, resolve_function, source_digest
from flowcore.errors import CodeError
from flowcore.graph import CodeRef, PythonFunction


class Blobs:
    """Code in memory, by digest."""

    def __init__(self) -> None:
        self.blobs: dict[str, bytes] = {}

    def put_blob(self, data: bytes) -> str:
        digest = hashlib.sha256(data).hexdigest()
        self.blobs[digest] = data
        return digest

    def get_blob(self, sha256: str) -> bytes:
        return self.blobs[sha256]


def described(function: Callable[..., Any]) -> PythonFunction:
    return PythonFunction(function.__module__, function.__qualname__, source_digest(function))


@dsl.component
def at_module_level(value: int) -> int:
    return helper(value)


def helper(value: int) -> int:
    return value + 1


BASE = "def f(a: int) -> int:\n    b = a + 1  # why\n    return b\n"


@pytest.fixture
def digest_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """The digest of ``f`` in a module with this text."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def digest(text: str) -> str:
        name = f"digest_{secrets.token_hex(4)}"
        (tmp_path / f"{name}.py").write_text(text)
        importlib.invalidate_caches()
        return source_digest(importlib.import_module(name).f)

    return digest


class TestDigest:
    @pytest.mark.parametrize(
        "same",
        [
            "# above\n\n\ndef f(a: int) -> int:\n\n    # before\n    b = a + 1\n\n    return b  # after\n",
            "def f(a: int) -> int:\n  b = a + 1\n  return b\n",
            "def f(a: int) -> int:\n    b = (\n        a + 1)\n    return b\n".replace("(\n        a + 1)", "a \\\n        + 1"),
            "def d(g): return g\n\n@d\n@d\ndef f(a: int) -> int:\n    b = a + 1\n    return b\n",
            "if True:\n    def f(a: int) -> int:\n        b = a + 1\n        return b\n",
        ],
        ids=["comments", "indentation", "continued line", "decorators", "nested in a block"],
    )
    def test_layout_and_decorators_change_nothing(self, digest_of: Callable[[str], str], same: str) -> None:
        assert digest_of(same) == digest_of(BASE)

    @pytest.mark.parametrize(
        "other",
        [
            BASE.replace("+ 1", "+ 2"),
            BASE.replace("a: int", "a: float"),
            BASE.replace("def f", "async def f"),
            BASE.replace("return b", "    return b").replace("b = a + 1", "if a:\n        b = 1"),
        ],
        ids=["constant", "annotation", "async", "block"],
    )
    def test_code_changes_it(self, digest_of: Callable[[str], str], other: str) -> None:
        assert digest_of(other) != digest_of(BASE)

    def test_function_without_source_has_one_too(self) -> None:
        def make(text: str) -> Any:
            namespace: dict[str, Any] = {}
            exec(compile(text, "<nowhere>", "exec"), namespace)
            return namespace["f"]

        assert source_digest(make(BASE)) == source_digest(make(BASE))
        assert source_digest(make(BASE)) != source_digest(make(BASE.replace("+ 1", "+ 2")))

    def test_digest_without_source_is_the_same_in_every_process(self) -> None:
        program = (
            "from flowcore.code import source_digest\n"
            'exec(\'def f(x):\\n    return x in {"a", "b", "c", "d"}\')\n'
            "print(source_digest(f))"
        )
        seen = {
            subprocess.run(
                [sys.executable, "-c", program],
                env={"PYTHONHASHSEED": seed},
                cwd=ROOT,
                capture_output=True,
                text=True,
                check=True,
            ).stdout
            for seed in ("1", "2", "3")
        }
        assert len(seen) == 1


ROOT = Path(__file__).resolve().parents[1]


class TestByReference:
    def test_module_level_function_needs_no_blob(self) -> None:
        blobs = Blobs()
        function = at_module_level.python_func
        ref = code_ref(function, described(function), blobs)
        assert (ref.module, ref.qualname, ref.blob) == (__name__, "at_module_level", None)
        assert not blobs.blobs
        assert load_function(ref, None) is function

    def test_other_code_than_the_drivers_is_refused(self) -> None:
        ref = CodeRef(__name__, "helper", "0" * 64)
        with pytest.raises(
            CodeError, match=rf"component function {__name__}.helper is other code here than the driver's; install"
        ):
            load_function(ref, None)

    @pytest.mark.parametrize("qualname", ["gone", "gone.deeper", "ROOT", "Blobs"])
    def test_function_that_is_not_there_is_refused(self, qualname: str) -> None:
        with pytest.raises(CodeError, match=rf"{__name__}.{qualname} is not in that module here; install the same version"):
            load_function(CodeRef(__name__, qualname, "0" * 64), None)

    def test_module_that_is_not_there_is_refused(self) -> None:
        with pytest.raises(CodeError, match=r"no_such_module.f cannot be imported here: ModuleNotFoundError"):
            resolve_function(PythonFunction("no_such_module", "f", "0" * 64))

    def test_module_that_fails_on_import_is_refused(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.syspath_prepend(str(tmp_path))
        (tmp_path / "broken_module.py").write_text("1 / 0\n")
        with pytest.raises(CodeError, match=r"broken_module.f cannot be imported here: ZeroDivisionError"):
            resolve_function(PythonFunction("broken_module", "f", "0" * 64))


class TestByValue:
    def test_closure_travels_as_a_blob(self) -> None:
        offset = 5

        def shift(value: int) -> int:
            return value + offset

        blobs = Blobs()
        ref = code_ref(shift, described(shift), blobs)
        assert ref.blob in blobs.blobs
        assert load_function(ref, blobs)(1) == 6

    def test_module_off_the_path_travels_as_a_blob(self) -> None:
        module = ModuleType("made_by_hand")
        exec("def f(x):\n    return g(x)\ndef g(x):\n    return x * 2\n", module.__dict__)
        sys.modules["made_by_hand"] = module
        try:
            blobs = Blobs()
            ref = code_ref(module.f, described(module.f), blobs)
        finally:
            del sys.modules["made_by_hand"]
        assert load_function(ref, blobs)(4) == 8

    def test_blob_runs_in_a_fresh_process(self, tmp_path: Path) -> None:
        offset = 5

        def shift(value: int) -> int:
            return value + offset

        blobs = Blobs()
        ref = code_ref(shift, described(shift), blobs)
        (tmp_path / "blob").write_bytes(blobs.blobs[str(ref.blob)])
        program = (
            "import sys, json, pathlib\n"
            "from flowcore.code import load_function\n"
            "from flowcore.graph import CodeRef\n"
            "class Blobs:\n"
            "    def get_blob(self, sha256): return pathlib.Path(sys.argv[2]).read_bytes()\n"
            "print(load_function(CodeRef(**json.loads(sys.argv[1])), Blobs())(10))\n"
        )
        fields = json.dumps({name: getattr(ref, name) for name in CodeRef.__slots__})
        command = [sys.executable, "-c", program, fields, str(tmp_path / "blob")]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        assert done.stdout == "15\n"

    def test_what_cannot_be_pickled_is_named(self) -> None:
        lock = threading.Lock()
        fine = 3

        def guarded() -> int:
            with lock:
                return fine

        with pytest.raises(CodeError) as caught:
            code_ref(guarded, described(guarded), Blobs())
        message = str(caught.value)
        assert "guarded cannot be sent to another process: it uses 'lock' (lock): " in message
        assert "'fine'" not in message
        assert "in the body" in message

    def test_another_minor_version_of_python_is_refused_by_name(self) -> None:
        ref = CodeRef("m", "f", "0" * 64, "blob", "3.9")
        with pytest.raises(CodeError, match=r"m.f was pickled by Python 3.9, this worker is 3\.\d+: use the same minor version"):
            load_function(ref, Blobs())

    def test_broken_blob_is_refused(self) -> None:
        blobs = Blobs()
        ref = CodeRef("m", "f", "0" * 64, blobs.put_blob(b"no pickle"), f"{sys.version_info.major}.{sys.version_info.minor}")
        with pytest.raises(CodeError, match=r"component function m.f cannot be loaded here: "):
            load_function(ref, blobs)

    def test_registration_of_the_author_stays(self) -> None:
        import cloudpickle

        module = ModuleType("made_by_hand")
        exec("def f(x):\n    return x\n", module.__dict__)
        sys.modules["made_by_hand"] = module
        try:
            cloudpickle.register_pickle_by_value(module)
            code_ref(module.f, described(module.f), Blobs())
            assert "made_by_hand" in cloudpickle.list_registry_pickle_by_value()
            cloudpickle.unregister_pickle_by_value(module)
            code_ref(module.f, described(module.f), Blobs())
            assert "made_by_hand" not in cloudpickle.list_registry_pickle_by_value()
        finally:
            del sys.modules["made_by_hand"]
