"""A recursive interpreter of pipelines, written from the language's rules alone, and random pipelines for it.

It knows no events, no budgets in flight and no order of completion: each task's fate is given by its path.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

from flowcore.graph import (
    And,
    Binding,
    Compare,
    Component,
    Condition,
    Constant,
    Dag,
    Loop,
    Not,
    OneOf,
    Or,
    ParameterType,
    Port,
    PythonFunction,
    Retry,
    ScopeInput,
    Task,
    TaskOutput,
    Truth,
)

INT, INTS, BOOL = ParameterType("int"), ParameterType("list", (ParameterType("int"),)), ParameterType("bool")
FUNCTION = PythonFunction("tests", "leaf", "0" * 64, "single")
LOSSES = 3


def leaf(inputs: int) -> Component:
    """A leaf with int inputs a, b, c …, which adds them and one."""
    ports = tuple(Port(chr(ord("a") + number), INT) for number in range(inputs))
    return Component("leaf", ports, (Port("Output", INT, "return"), Port("odd", BOOL, "return")), FUNCTION)


def compute(inputs: dict[str, Any]) -> dict[str, Any]:
    """What a leaf gives."""
    total = sum(value for value in inputs.values() if isinstance(value, int)) + 1
    return {"Output": total, "odd": total % 2 == 1}


@dataclass
class Fates:
    """What becomes of each attempt of the leaf at a path: "ok", "fail", "lost" or "unstarted", the last one for ever."""

    by_path: dict[str, list[str]] = field(default_factory=dict)
    random: random.Random | None = None

    def of(self, path: str) -> list[str]:
        if path not in self.by_path:
            assert self.random is not None
            if self.random.random() < 0.15:  # at the budget's very edge
                self.by_path[path] = [*["lost"] * self.random.randint(LOSSES, LOSSES + 1), "ok"]
                return self.by_path[path]
            kinds = self.random.choices(["ok", "fail", "lost", "unstarted"], [8, 2, 1, 1], k=self.random.randint(1, 5))
            # Lost for ever would only say that the budget of unstarted losses ends.
            self.by_path[path] = [*kinds, self.random.choice(["ok", "ok", "fail", "lost"])]
        return self.by_path[path]

    def attempt(self, path: str, number: int) -> str:
        fates = self.of(path)
        return fates[min(number, len(fates)) - 1]


class Absent(Exception):
    """The value's producer was skipped."""


@dataclass
class Result:
    """Every task's state by path, and what the scope gives."""

    states: dict[str, str]
    outputs: dict[str, Any]
    failed: bool


def interpret(dag: Dag, inputs: dict[str, Any], fates: Fates, prefix: str = "") -> Result:
    """Run a Dag whose tasks are in an order in which each needs only earlier ones."""
    states: dict[str, str] = {}
    values: dict[str, dict[str, Any]] = {}
    blamed: dict[str, bool] = {}
    everything: dict[str, str] = {}
    for task in dag.tasks:
        state, outputs, blame = _task(task, inputs, states, values, blamed, fates, prefix, everything)
        states[task.name], values[task.name], blamed[task.name] = state, outputs, blame
        everything[prefix + task.name] = state
    given = {}
    for name, binding in dag.outputs:
        try:
            given[name] = _value(binding, inputs, values)
        except Absent:
            continue
    return Result(everything, given, "FAILED" in states.values())


def _task(
    task: Task,
    inputs: dict[str, Any],
    states: dict[str, str],
    values: dict[str, dict[str, Any]],
    blamed: dict[str, bool],
    fates: Fates,
    prefix: str,
    everything: dict[str, str],
) -> tuple[str, dict[str, Any], bool]:
    """(state, outputs, whether a failure upstream is to blame for a skip)."""
    read = {source.task for binding in _bindings(task) for source in _outputs(binding)}
    certain = {source.task for binding in _bindings(task) if not isinstance(binding, OneOf) for source in _outputs(binding)}
    if task.trigger == "all_succeeded":
        for need in (*read, *task.after):
            if states[need] == "FAILED" or blamed[need]:
                return "SKIPPED", {}, True
        if any(states[need] == "SKIPPED" for need in certain):
            return "SKIPPED", {}, False
    try:
        for binding in _bindings(task):
            _value(binding, inputs, values)
        if task.condition is not None and not _holds(task.condition, inputs, values):
            return "SKIPPED", {}, False
        bound = {name: _value(binding, inputs, values) for name, binding in task.inputs}
        items = None if task.loop is None else _value(task.loop.items, inputs, values)
    except Absent:
        return "SKIPPED", {}, False
    path = prefix + task.name
    if not isinstance(task.component.implementation, Dag):
        return _leaf(task, path, bound, fates)
    scopes = [(f"{path}/", bound)]
    if task.loop is not None:
        assert items is not None
        scopes = [(f"{path}.{index}/", {**bound, task.loop.item_input: item}) for index, item in enumerate(items)]
    results = [interpret(task.component.implementation, scope, fates, start) for start, scope in scopes]
    for result in results:
        everything.update(result.states)
    names = [name for name, _ in task.component.implementation.outputs]
    if task.loop is None:
        outputs = results[0].outputs
    else:
        outputs = {name: [result.outputs[name] for result in results if name in result.outputs] for name in names}
    return "FAILED" if any(result.failed for result in results) else "SUCCEEDED", outputs, False


def _leaf(task: Task, path: str, bound: dict[str, Any], fates: Fates) -> tuple[str, dict[str, Any], bool]:
    failures = losses = attempt = 0
    while True:
        attempt += 1
        fate = fates.attempt(path, attempt)
        if fate == "ok":
            return "SUCCEEDED", compute(bound), False
        failures += fate == "fail"
        losses += fate == "lost"
        if losses > LOSSES or (fate == "fail" and failures > (task.retry.limit if task.retry else 0)):
            return "FAILED", {}, False


def _bindings(task: Task) -> list[Binding]:
    found = [binding for _, binding in task.inputs]
    if task.loop is not None:
        found.append(task.loop.items)
    return found + (_condition_bindings(task.condition) if task.condition is not None else [])


def _condition_bindings(condition: Condition) -> list[Binding]:
    match condition:
        case Compare(_, left, right):
            return [left, right]
        case Truth(value):
            return [value]
        case And(terms) | Or(terms):
            return [binding for term in terms for binding in _condition_bindings(term)]
        case Not(term):
            return _condition_bindings(term)


def _outputs(binding: Binding) -> list[TaskOutput]:
    if isinstance(binding, TaskOutput):
        return [binding]
    return [source for choice in binding.choices for source in _outputs(choice)] if isinstance(binding, OneOf) else []


def _value(binding: Binding, inputs: dict[str, Any], values: dict[str, dict[str, Any]]) -> Any:
    match binding:
        case Constant(value):
            return value
        case ScopeInput(name):
            return inputs[name]
        case TaskOutput(task, port):
            if port not in values[task]:
                raise Absent
            return values[task][port]
        case OneOf(choices):
            for choice in choices:
                try:
                    return _value(choice, inputs, values)
                except Absent:
                    continue
            raise Absent
    raise TypeError(binding)


def _holds(condition: Condition, inputs: dict[str, Any], values: dict[str, dict[str, Any]]) -> bool:
    match condition:
        case Compare(op, left, right):
            a, b = _value(left, inputs, values), _value(right, inputs, values)
            return bool({"==": a == b, "<": a < b, ">=": a >= b}[op])
        case Truth(value):
            return bool(_value(value, inputs, values))
        case And(terms):
            return all(_holds(term, inputs, values) for term in terms)
        case Or(terms):
            return any(_holds(term, inputs, values) for term in terms)
        case Not(term):
            return not _holds(term, inputs, values)


class Author:
    """Writes random nested pipelines. In each scope some int values, lists of ints and bools are in sight."""

    def __init__(self, dice: random.Random) -> None:
        self.dice = dice
        self._count = 0

    def component(self, depth: int = 0, item: bool = False, outer: int = 0) -> Component:
        """A Dag with ``outer`` int inputs (and "item" for a loop), which exports an int where it has one."""
        ports = [Port(f"outer{number}", INT) for number in range(outer)]
        ints: list[Binding] = [ScopeInput(port.name) for port in ports]
        if item:
            ports.append(Port("item", INT))
            ints.append(ScopeInput("item"))
        lists: list[Binding] = [Constant([1, 2, 3]), Constant([])]
        bools: list[Binding] = []
        tasks: list[Task] = []
        for _ in range(self.dice.randint(1, 4)):
            tasks.append(self._task(depth, tasks, ints, lists, bools))
        made = [binding for binding in ints if isinstance(binding, TaskOutput | OneOf)]
        outputs = (("Output", self.dice.choice(made)),) if made else ()
        ports_out = (Port("Output", INT, "return"),) if made else ()
        self._count += 1
        return Component(f"dag{self._count}", tuple(ports), ports_out, Dag(tuple(tasks), outputs))

    def _int(self, ints: list[Binding]) -> Binding:
        return self.dice.choice([*ints, Constant(self.dice.randint(0, 3))])

    def _condition(self, ints: list[Binding], bools: list[Binding], depth: int = 0) -> Condition:
        kind = self.dice.choice(["compare", "truth", "and", "or", "not"] if depth < 2 else ["compare", "truth"])
        if kind == "truth" and bools:
            return Truth(self.dice.choice(bools))
        if kind in ("and", "or"):
            terms = tuple(self._condition(ints, bools, depth + 1) for _ in range(2))
            return And(terms) if kind == "and" else Or(terms)
        if kind == "not":
            return Not(self._condition(ints, bools, depth + 1))
        return Compare(self.dice.choice(["==", "<", ">="]), self._int(ints), Constant(self.dice.randint(0, 6)))

    def _task(self, depth: int, before: list[Task], ints: list[Binding], lists: list[Binding], bools: list[Binding]) -> Task:
        name = f"t{len(before)}"
        after = tuple(task.name for task in before if self.dice.random() < 0.15)
        kind = self.dice.choice(["leaf", "leaf", "if", "loop", "sub"] if depth < 3 else ["leaf"])
        if kind == "leaf":
            component = leaf(self.dice.randint(0, 2))
            inputs = tuple((port.name, self._int(ints)) for port in component.inputs)
            retry = Retry(self.dice.randint(0, 2), self.dice.choice([0.0, 5.0])) if self.dice.random() < 0.5 else None
            if self.dice.random() < 0.1 and ints:
                choices = tuple(self.dice.sample(ints, min(2, len(ints))))
                inputs = tuple((port, OneOf(choices)) for port, _ in inputs)
            ints.append(TaskOutput(name, "Output"))
            bools.append(TaskOutput(name, "odd"))
            return Task(name, component, inputs, after, retry=retry)
        component = self.component(depth + 1, item=kind == "loop", outer=self.dice.randint(0, 2))
        inputs = tuple((port.name, self._int(ints)) for port in component.inputs if port.name != "item")
        condition = self._condition(ints, bools) if kind == "if" else None
        loop = Loop(self.dice.choice(lists), "item", self.dice.choice([None, 1, 2])) if kind == "loop" else None
        if component.outputs:
            (lists if kind == "loop" else ints).append(TaskOutput(name, "Output"))
        return Task(name, component, inputs, after, condition, loop)
