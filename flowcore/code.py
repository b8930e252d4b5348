"""How a function reaches a worker: by import where that finds the same source there, else by value as a cloudpickle blob.

Digests are of the token stream, without comments and layout: reformatting a file changes none.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.machinery
import inspect
import io
import os
import sys
import textwrap
import threading
import tokenize
from collections.abc import Callable
from contextvars import ContextVar
from types import CodeType
from typing import Any, Protocol

from flowcore.errors import CodeError
from flowcore.graph import CodeRef, PythonFunction

_LAYOUT = {tokenize.COMMENT, tokenize.NL, tokenize.ENCODING, tokenize.ENDMARKER}
_PICKLING = threading.Lock()


def _begin_anew() -> None:
    global _PICKLING  # noqa: PLW0603  in a forked child: who held it is not here
    _PICKLING = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_anew)


class BlobStore(Protocol):
    """Where by-value code lies."""

    def put_blob(self, data: bytes) -> str: ...

    def get_blob(self, sha256: str) -> bytes: ...


def source_digest(function: Callable[..., Any]) -> str:
    """The sha256 of a function's tokens from ``def`` or ``async`` on; of its bytecode where there is no source (REPL)."""
    try:
        source = textwrap.dedent(inspect.getsource(function))
        tokens = list(tokenize.generate_tokens(io.StringIO(source).readline))
    except (OSError, TypeError, SyntaxError, tokenize.TokenError):
        return hashlib.sha256(_code_text(function.__code__).encode()).hexdigest()
    start = next((place for place, token in enumerate(tokens) if token.string in ("def", "async")), 0)
    kept = [_token_text(token) for token in tokens[start:] if token.type not in _LAYOUT]
    return hashlib.sha256("\x00".join(kept).encode()).hexdigest()


def _token_text(token: tokenize.TokenInfo) -> str:
    # The width of an indentation is layout; that there is one is not.
    return tokenize.tok_name[token.type] if token.type in (tokenize.INDENT, tokenize.DEDENT, tokenize.NEWLINE) else token.string


def _code_text(code: CodeType) -> str:
    constants = [_constant_text(item) for item in code.co_consts]
    return repr((code.co_code.hex(), constants, code.co_names, code.co_varnames))


def _constant_text(constant: Any) -> str:
    if isinstance(constant, CodeType):
        return _code_text(constant)
    # The order of a set's repr changes from process to process.
    return repr(sorted(map(repr, constant))) if isinstance(constant, frozenset) else repr(constant)


def code_ref(function: Callable[..., Any], described: PythonFunction, blobs: BlobStore) -> CodeRef:
    """How another process on this machine finds ``function``; code that it could not import is put into ``blobs``.

    Raises:
        CodeError: the function cannot be pickled; the message says what it holds.
    """
    if _importable(function):
        return CodeRef(described.module, described.qualname, described.digest)
    blob = blobs.put_blob(_pickle(function, described))
    return CodeRef(described.module, described.qualname, described.digest, blob, _python())


def _python() -> str:
    return f"{sys.version_info.major}.{sys.version_info.minor}"


def _importable(function: Callable[..., Any]) -> bool:
    name = function.__module__
    module = sys.modules.get(name)
    if name == "__main__" or module is None or "<locals>" in function.__qualname__:
        return False
    top = name.partition(".")[0]
    try:
        spec = importlib.machinery.PathFinder.find_spec(top)
    except (ImportError, ValueError):
        return False
    loaded = getattr(sys.modules.get(top), "__spec__", None)
    if spec is None or loaded is None or spec.origin != loaded.origin:
        return False
    return _find(module, function.__qualname__) is function


def _find(module: Any, qualname: str) -> Any:
    found = module
    for part in qualname.split("."):
        found = getattr(found, part, None)
    return getattr(found, "python_func", found)


def _pickle(function: Callable[..., Any], described: PythonFunction) -> bytes:
    import cloudpickle

    module = sys.modules.get(function.__module__)
    by_value = module is not None and function.__module__ != "__main__" and "." not in function.__module__
    with _PICKLING:  # registering a module is the process's state
        by_value = by_value and function.__module__ not in cloudpickle.list_registry_pickle_by_value()
        try:
            if by_value:
                cloudpickle.register_pickle_by_value(module)
            data: bytes = cloudpickle.dumps(function)
            return data
        except Exception as error:
            raise CodeError(
                f"component function {described.module}.{described.qualname} cannot be sent to another process: "
                f"{_unpicklable(function)}{type(error).__name__}: {error}; create open files, locks, connections and the like "
                "in the body, or pass what it needs as an input"
            ) from error
        finally:
            if by_value:
                cloudpickle.unregister_pickle_by_value(module)


def _unpicklable(function: Callable[..., Any]) -> str:
    """The outer variables that a function uses and that cannot be pickled, for a message."""
    import cloudpickle

    used = inspect.getclosurevars(function)
    names = []
    for name, value in {**used.globals, **used.nonlocals}.items():
        try:
            cloudpickle.dumps(value)
        except Exception:  # noqa: BLE001  whatever an object's own reducer raises
            names.append(f"{name!r} ({type(value).__name__})")
    return f"it uses {', '.join(names)}: " if names else ""


#: The module that a worker is importing for a function of it, if any.
_IMPORTING: ContextVar[str | None] = ContextVar("flowcore_importing", default=None)


def check_not_importing() -> None:
    """Refuse to run a pipeline from the top level of a module that a worker imports: its workers would do the same, for ever.

    Raises:
        CodeError: names the module and the remedy.
    """
    name = _IMPORTING.get()
    if name is not None:
        raise CodeError(
            f"module {name!r} runs a pipeline when it is imported, and worker processes import it for its components; "
            'put the run under `if __name__ == "__main__":`'
        )


def load_function(code: CodeRef, blobs: BlobStore | None) -> Callable[..., Any]:
    """The function of a reference, in a worker.

    Raises:
        CodeError: it is not there, is other code than the driver's, or was pickled by another minor version of Python.
    """
    where = f"component function {code.module}.{code.qualname}"
    if code.blob is not None:
        if code.python != _python():
            versions = f"pickled by Python {code.python}, this worker is {_python()}"
            raise CodeError(f"{where} was {versions}: use the same minor version, or move it into an importable module")
        import cloudpickle

        assert blobs is not None
        try:
            function: Callable[..., Any] = cloudpickle.loads(blobs.get_blob(code.blob))
        except CodeError:
            raise
        except Exception as error:
            raise CodeError(f"{where} cannot be loaded here: {type(error).__name__}: {error}") from error
        return function
    token = _IMPORTING.set(code.module)
    try:
        found = _find(importlib.import_module(code.module), code.qualname)
    except CodeError:
        raise
    except Exception as error:
        raise CodeError(f"{where} cannot be imported here: {type(error).__name__}: {error}") from error
    finally:
        _IMPORTING.reset(token)
    if not inspect.isfunction(found):
        raise CodeError(f"{where} is not in that module here; install the same version of it")
    if source_digest(found) != code.digest:
        raise CodeError(f"{where} is other code here than the driver's; install the same version of it")
    loaded: Callable[..., Any] = found
    return loaded


def resolve_function(described: PythonFunction) -> Callable[..., Any]:
    """The function of a pipeline that was read from JSON.

    Raises:
        CodeError: see ``load_function``.
    """
    return load_function(CodeRef(described.module, described.qualname, described.digest), None)
