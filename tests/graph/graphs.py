"""Graphs for the tests: one with every feature of the model, and random nested ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st

from flowcore.graph import (
    And,
    ArtifactType,
    Binding,
    Compare,
    Component,
    Condition,
    Constant,
    Dag,
    DictOf,
    ListOf,
    Loop,
    Not,
    OneOf,
    Or,
    ParameterType,
    Pipeline,
    Port,
    PythonFunction,
    Retry,
    ScopeInput,
    Settings,
    Task,
    TaskOutput,
    Template,
    Truth,
)
from flowcore.graph.settings import (
    ConfigMapEnv,
    ConfigMapVolume,
    EmptyDir,
    EphemeralVolume,
    SecretEnv,
    SecretVolume,
    VolumeMount,
)

INT, STR, BOOL, ANY = (ParameterType(name) for name in ("int", "str", "bool", "any"))
DATASET = ArtifactType("system.Dataset")


def step(name: str = "step") -> Component:
    function = PythonFunction("module", name, "0" * 64, "single")
    return Component(
        name, (Port("a", INT), Port("b", INT, has_default=True, default=2)), (Port("Output", INT, "return"),), function
    )


def every_feature() -> Pipeline:
    names = ParameterType("dict", (STR, ParameterType("list", (INT,))))
    make = Component(
        "make",
        (Port("config", names, has_default=True, default={"input": [1]}, description="what"), Port("label", STR, "path")),
        (Port("data", DATASET, "artifact"), Port("big", BOOL, "return")),
        PythonFunction("pkg.module", "make", "1" * 64, "namedtuple", "python:3.12", ("pandas>=2",)),
        "Makes data.",
    )
    body = Component(
        "sweep",
        (Port("item", ANY), Port("outer-n", INT), Port("data", ArtifactType("system.Artifact", optional=True))),
        (Port("result", INT, "return"),),
        Dag(
            (Task("step", step(), (("a", ScopeInput("item", ("x", "y"))), ("b", ScopeInput("outer-n")))),),
            (("result", TaskOutput("step", "Output")),),
        ),
    )
    use = Component(
        "use", (Port("values", ParameterType("list")), Port("more", ParameterType("dict"))), (), PythonFunction("m", "use", "2")
    )
    choices = OneOf((TaskOutput("sweep", "result"), Constant([1])))
    condition = And(
        (Compare(">=", ScopeInput("n"), Constant(3)), Or((Truth(TaskOutput("make", "big")), Not(Truth(Constant(False)))))),
    )
    tasks = (
        Task(
            "make", make, (("label", Template(("n=", ScopeInput("n")))),), retry=Retry(3, 1.5, 1.0, 60.0), settings=Settings(9.5)
        ),
        Task(
            "sweep",
            body,
            (("outer-n", ScopeInput("n")), ("data", TaskOutput("make", "data"))),
            condition=condition,
            loop=Loop(ListOf((Constant(1), ScopeInput("n"))), "item", 2),
        ),
        Task("use", use, (("values", choices), ("more", DictOf((("k", ScopeInput("n")),)))), after=("make",), trigger="all_done"),
    )
    inputs = (Port("n", INT, has_default=True, default=3),)
    outputs = (Port("results", ParameterType("list", (INT,)), "return"),)
    return Pipeline(
        Component("every", inputs, outputs, Dag(tasks, (("results", TaskOutput("sweep", "result")),)), "All of it."), "All of it."
    )


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["a", "input", "constant", "é"]), inner, max_size=2)
    ),
    max_leaves=4,
)


@st.composite
def dags(draw: st.DrawFn, depth: int) -> Component:
    """A component whose input is ``n`` and whose output is ``out``, with leaves, branches and loops."""
    tasks: list[Task] = []
    sources: list[Binding] = [ScopeInput("n")]

    def binding() -> Binding:
        kind = draw(st.integers(0, 6))
        source = draw(st.sampled_from(sources))
        structures: list[Binding] = [
            Constant(draw(PLAIN)),
            Template(("x", source)),
            ListOf((source, Constant(1))),
            DictOf((("k", source),)),
            OneOf((source,)),
        ]
        return structures[kind] if kind < len(structures) else source

    def condition(levels: int = 2) -> Condition:
        kind = draw(st.integers(0, 4 if levels else 1))
        if kind == 0:
            return Truth(binding())
        if kind == 1:
            return Compare(draw(st.sampled_from(["==", "!=", "<", "<=", ">", ">="])), binding(), binding())
        if kind == 2:
            return Not(condition(levels - 1))
        terms = (condition(levels - 1), condition(levels - 1))
        return And(terms) if kind == 3 else Or(terms)

    for number in range(draw(st.integers(1, 3))):
        name = f"t{number}"
        after = tuple(draw(st.sets(st.sampled_from([task.name for task in tasks]), max_size=2))) if tasks else ()
        if depth and draw(st.booleans()):
            inner = draw(dags(depth=depth - 1))
            loop = Loop(binding(), "n", draw(st.sampled_from([None, 1, 3]))) if draw(st.booleans()) else None
            inputs: tuple[Any, ...] = () if loop is not None else (("n", binding()),)
            tasks.append(Task(name, inner, inputs, after, condition() if draw(st.booleans()) else None, loop))
        else:
            function = PythonFunction("m", draw(st.sampled_from(["f", "g"])), "0", "single")
            leaf = Component(
                "leaf", (Port("n", ANY, has_default=True, default=draw(PLAIN)),), (Port("out", ANY, "return"),), function
            )
            retry = Retry(draw(st.integers(0, 2))) if draw(st.booleans()) else None
            tasks.append(Task(name, leaf, (("n", binding()),), after, retry=retry))
        sources.append(TaskOutput(name, "out"))
    dag = Dag(tuple(tasks), (("out", binding()),))
    return Component(f"dag{depth}", (Port("n", ANY),), (Port("out", ANY, "return"),), dag, draw(st.text(max_size=3)))


WORDS = st.text("abcdefgh-é", min_size=1, max_size=6)
TEXTS = WORDS | st.just(ScopeInput("n", ("name",))) | st.just(Template(("x-", ScopeInput("n"))))
FIELDS = st.sampled_from(["metadata.name", "metadata.labels['app']", "spec.nodeName"])
PAIRS = st.lists(st.tuples(WORDS, WORDS), max_size=2).map(tuple)
POD = st.sampled_from(
    [
        ("node_selector", '{"gpu":"a100"}'),
        ("toleration", '[{"key":"gpu"}]'),
        ("service_account", '"trainer"'),
        ("toleration", ScopeInput("n")),
        ("image_pull_secrets", ListOf((Constant("registry"), ScopeInput("n")))),
    ]
)


@st.composite
def any_settings(draw: st.DrawFn) -> Settings:
    """Settings without a problem, with bindings in every place where one may be."""
    folders = iter(f"/mnt/{number}" for number in range(100))
    variables = iter(f"V{number}" for number in range(100))

    def some(make: Callable[[], Any]) -> Any:
        return tuple(make() for _ in range(draw(st.integers(0, 2))))

    def keys() -> Any:
        return some(lambda: (draw(WORDS), next(variables)))

    optional = st.booleans()
    return Settings(
        draw(st.none() | st.floats(0.1, 1e6)),
        some(lambda: (next(variables), draw(TEXTS))),
        some(lambda: SecretEnv(draw(TEXTS), keys(), draw(optional))),
        some(lambda: SecretVolume(draw(TEXTS), next(folders), draw(optional))),
        some(lambda: ConfigMapEnv(draw(TEXTS), keys(), draw(optional))),
        some(lambda: ConfigMapVolume(draw(TEXTS), next(folders), draw(optional))),
        some(lambda: (next(variables), draw(FIELDS))),
        some(lambda: VolumeMount(draw(TEXTS), next(folders), draw(st.sampled_from(["", "a/b"])))),
        some(lambda: EmptyDir(draw(WORDS), next(folders), draw(st.none() | WORDS), draw(st.sampled_from([None, "1Gi"])))),
        some(
            lambda: EphemeralVolume(
                draw(WORDS), next(folders), ("ReadWriteOnce",), "5Gi", draw(st.none() | WORDS), draw(PAIRS), draw(PAIRS)
            )
        ),
        draw(st.sampled_from([None, "0", "0.5", "500m", ".5", ScopeInput("n")])),
        draw(st.sampled_from([None, "2", "2000m", ScopeInput("n")])),
        draw(st.sampled_from([None, "0", "100", "4Gi", "1E", ScopeInput("n")])) if draw(st.booleans()) else None,
        None,
        draw(st.none() | TEXTS),
        draw(st.sampled_from([None, "0", "2", ScopeInput("n")])),
        draw(st.none() | TEXTS),
        draw(st.none() | WORDS),
        draw(st.none() | WORDS),
        draw(st.lists(POD, max_size=3).map(tuple)),
    )


def pipelines(depth: int = 2) -> st.SearchStrategy[Pipeline]:
    return dags(depth=depth).map(lambda root: Pipeline(root, root.description))
