"""A pipeline out of an author's Python file, for the command line. It imports the file and nothing else.

A file is imported under its own name, so that worker processes can import it too; where that name is taken, under one of its own.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import os
import sys
import traceback
from types import ModuleType
from typing import TYPE_CHECKING, Any

from flowcore.errors import FlowcoreError, UsageError

if TYPE_CHECKING:
    from flowcore.client import Runnable


def load_pipeline(target: str) -> Runnable:
    """The pipeline of ``FILE`` or ``FILE:name``; a name is a variable's or the pipeline's own.

    Raises:
        UsageError: no such file, it cannot be imported, or which pipeline is meant is not clear.
    """
    file, name = _split(target)
    if not os.path.exists(file):
        raise UsageError(f"there is no file {file!r}")
    if os.path.isdir(file) or not file.endswith(".py"):
        raise UsageError(f"{file!r} is not a Python file: name a .py file that holds a pipeline")
    module = _import(file)
    found: Runnable = _named(module, file, name) if name else _only(module, file)
    return found


def _split(target: str) -> tuple[str, str]:
    file, colon, name = target.rpartition(":")
    # A colon may be part of the file's own name.
    return (file, name) if colon and (file.endswith(".py") or not os.path.exists(target)) else (target, "")


def _import(file: str) -> ModuleType:
    path = os.path.abspath(file)
    folder, stem = os.path.dirname(path), os.path.basename(path)[:-3]
    taken = _is_taken(stem, path)
    if taken:
        # Its neighbours can be imported, but it must not hide what has its name.
        sys.path.append(folder)
    elif folder not in sys.path[:1]:
        sys.path.insert(0, folder)
    importlib.invalidate_caches()
    try:
        if not taken and _origin(stem) == os.path.realpath(path):
            return importlib.import_module(stem)
        return _import_alone(path, stem)
    except KeyboardInterrupt:
        raise
    except SystemExit:
        text = f"{file} ends the program when it is imported"
        raise UsageError(f"{text}; put what it runs under `if __name__ == '__main__':`") from None
    except BaseException as error:
        raise UsageError(f"{file} cannot be imported\n{_authors_text(error)}") from error


def _is_taken(stem: str, path: str) -> bool:
    if not stem.isidentifier() or stem in sys.modules or stem in sys.stdlib_module_names:
        return True
    return _origin(stem) not in (None, os.path.realpath(path))


def _origin(name: str) -> str | None:
    """The file that ``import name`` would read; None where there is none, or only a folder without code."""
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        return None
    return None if spec is None or spec.origin is None else os.path.realpath(spec.origin)


def _import_alone(path: str, stem: str) -> ModuleType:
    plain = "".join(character if character.isalnum() else "_" for character in stem)
    name = f"flowcore_file_{plain}_{hashlib.sha256(path.encode()).hexdigest()[:8]}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _authors_text(error: BaseException) -> str:
    """An exception with the lines of the author's code only."""
    shown = traceback.TracebackException(type(error), error, error.__traceback__, compact=True)
    shown.stack = traceback.StackSummary.from_list([frame for frame in shown.stack if not _is_machinery(frame.filename)])
    if isinstance(error, FlowcoreError):
        # Ours say what to do: the type's full name and what led to it are of no use to an author.
        lines = shown.stack.format()[-1:]
        return "".join([*lines, f"  {error}"])
    return "".join(shown.format(chain=False)).removeprefix("Traceback (most recent call last):\n").rstrip()


def _is_machinery(filename: str) -> bool:
    here = os.path.dirname(os.path.abspath(__file__))
    return filename.startswith(("<frozen importlib", here + os.sep)) or filename == importlib.__file__


def _pipelines(module: ModuleType) -> dict[str, Any]:
    """The pipelines of a module by variable: those made in it, or where there are none those that it imports."""
    from flowcore.dsl.pipeline import PipelineFunction
    from flowcore.graph import Pipeline

    found: dict[int, tuple[str, Any]] = {}
    for variable, value in vars(module).items():
        if isinstance(value, PipelineFunction | Pipeline):
            found.setdefault(id(value), (variable, value))
    everything = dict(found.values())
    own = {
        variable: value
        for variable, value in everything.items()
        if isinstance(value, Pipeline) or value.pipeline_func.__module__ == module.__name__
    }
    return own or everything


def _named(module: ModuleType, file: str, name: str) -> Any:
    from flowcore.dsl.component import ComponentFunction
    from flowcore.dsl.pipeline import PipelineFunction
    from flowcore.graph import Pipeline

    value = getattr(module, name, None)
    if isinstance(value, PipelineFunction | ComponentFunction | Pipeline):
        return value
    pipelines = _pipelines(module)
    named = [pipeline for pipeline in pipelines.values() if pipeline.name == name]
    if len(named) == 1:
        return named[0]
    if value is not None:
        raise UsageError(f"{name!r} in {file} is a {type(value).__name__}, not a pipeline; decorate it with @dsl.pipeline")
    raise UsageError(f"there is no pipeline {name!r} in {file}; it has {', '.join(pipelines) or 'none'}")


def _only(module: ModuleType, file: str) -> Any:
    pipelines = _pipelines(module)
    if not pipelines:
        raise UsageError(f"{file} has no pipeline; decorate a function with @dsl.pipeline")
    if len(pipelines) > 1:
        choices = ", ".join(f"{file}:{variable}" for variable in pipelines)
        raise UsageError(f"{file} has {len(pipelines)} pipelines; name one: {choices}")
    return next(iter(pipelines.values()))
