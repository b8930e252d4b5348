"""The tasks of a run as a page shows them: groups in groups, each folded, loops with counts and their failures first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flowcore import looks
from flowcore.graph import Dag, Task
from flowcore.page import cut, folded, mark, pairs, table, text, value
from flowcore.picture import Picture
from flowcore.records import LogLine, TaskRow
from flowcore.report import exact, first_line, number, size

if TYPE_CHECKING:
    from flowcore.artifacts.types import ArtifactRef

#: How many iterations of a loop, and tasks of a page, are shown; the rest is counted.
ITERATIONS, FAILED_ITERATIONS, ENTRIES = 40, 20, 1500
LOG_BYTES, ALL_LOG_BYTES = 20_000, 3_000_000


class TaskList:
    """Chooses what is shown of a run's tasks, and writes it."""

    def __init__(self, picture: Picture) -> None:
        self._picture = picture
        self._run = picture.run
        self._room = ENTRIES
        self._shown: list[str] = []
        self._artifacts: dict[str, list[tuple[str, ArtifactRef]]] = {}
        self._metrics: dict[str, dict[str, float | None]] = {}
        self._logs: dict[str, tuple[list[LogLine], int]] = {}

    def html(self) -> str:
        dag = self._run.pipeline.dag
        self._choose(dag, "")
        self._read()
        return self._tasks(dag, "", frozenset(self._shown))

    def _choose(self, dag: Dag, prefix: str) -> None:
        for task in dag.tasks:
            path = prefix + task.name
            if path not in self._picture.tasks or self._room <= 0:
                continue
            self._room -= 1
            self._shown.append(path)
            body = task.component.implementation
            if isinstance(body, Dag):
                for inside in self._insides(task, path):
                    self._choose(body, inside)

    def _insides(self, task: Task, path: str) -> list[str]:
        if task.loop is None:
            return [f"{path}/"]
        return [f"{path}.{index}/" for index in self._chosen(path)]

    def _chosen(self, path: str) -> list[int]:
        """The iterations of a loop that are shown: some that failed, then the first others."""
        known = self._picture.iterations.get(path, {})
        failed = sorted(index for index, bad in known.items() if bad)[:FAILED_ITERATIONS]
        first = [index for index in sorted(known) if index not in set(failed)][: ITERATIONS - len(failed)]
        return [*failed, *first]

    def _read(self) -> None:
        shown = set(self._shown)
        records, run_id = self._run._records, self._run.run_id
        for path, port, position, ref in records.artifacts(run_id):
            if path in shown:
                self._artifacts.setdefault(path, []).append((port if position < 0 else f"{port}[{position}]", ref))
        for path, name, _, number_ in records.metrics(run_id):
            if path in shown:
                self._metrics.setdefault(path, {})[name] = number_
        limit = min(LOG_BYTES, max(1000, ALL_LOG_BYTES // max(1, len(shown))))
        self._logs = looks.last_logs(records, run_id, self._shown, limit)

    def _tasks(self, dag: Dag, prefix: str, shown: frozenset[str]) -> str:
        parts, missing = [], 0
        for task in dag.tasks:
            path = prefix + task.name
            row = self._picture.tasks.get(path)
            if row is not None and path in shown:
                parts.append(self._task(task, path, row, shown))
            elif row is not None:
                missing += 1
        if missing:
            parts.append(f'<p class="soft small">{missing:,} more tasks are left out: this page shows {ENTRIES:,}.</p>')
        return "".join(parts)

    def _task(self, task: Task, path: str, row: TaskRow, shown: frozenset[str]) -> str:
        body = task.component.implementation
        took = "" if row.started_at is None or row.finished_at is None else exact(row.finished_at - row.started_at)
        note = f"{row.error.type}: {row.error.message}" if row.error is not None else row.reason or ""
        inside, opened = "", row.state == "FAILED"
        if isinstance(body, Dag) and task.loop is None:
            inside, opened = self._tasks(body, f"{path}/", shown), True
        elif isinstance(body, Dag):
            note = self._loop_note(path)
            inside = self._iterations(task, body, path, shown)
            opened = opened or len(self._picture.iterations.get(path, ())) <= 10
        elif row.attempt > 1:
            note = ", ".join(part for part in (f"{row.attempt} attempts", note) if part)
        return (
            f'<details class="task"{" open" if opened else ""}><summary>{mark(row.state)}'
            f'<span class="name">{text(task.name)}</span><span class="{row.state}">{row.state}</span>'
            f'<span class="time">{took}</span><span class="note soft">{text(cut(first_line(note), 300))}</span></summary>'
            f'<div class="body">{self._details(task, path, row)}{inside}</div></details>'
        )

    def _loop_note(self, path: str) -> str:
        known = self._picture.iterations.get(path, {})
        parts = [f"{len(known):,} iterations"]
        bad = sum(known.values())
        if bad:
            parts.append(f"{bad:,} failed")
        return ", ".join(parts)

    def _iterations(self, task: Task, body: Dag, path: str, shown: frozenset[str]) -> str:
        known = self._picture.iterations.get(path, {})
        chosen = [index for index in self._chosen(path) if any(f"{path}.{index}/{part.name}" in shown for part in body.tasks)]
        parts = []
        for index in chosen:
            prefix = f"{path}.{index}/"
            inside = self._tasks(body, prefix, shown)
            item = self._item(task, path, index)
            state = "FAILED" if known[index] else ""
            name = f'<span class="{state}">{mark(state) if state else ""} iteration {index}</span>'
            head = f'{name} <span class="soft">{item}</span>'
            parts.append(folded(head, f'<div class="body">{inside}</div>', opened=bool(state) or len(known) <= 10))
        rest = len(known) - len(chosen)
        if rest:
            bad = sum(known.values()) - sum(known[index] for index in chosen)
            failures = f", {bad:,} of them failed" if bad else ", none of them failed"
            means = "; ".join(
                f"{text(place.removeprefix(self._picture.place(path) + '/'))} took {exact(folded_.mean_seconds)} on average"
                for place, folded_ in self._picture.folded.items()
                if place.rpartition("/")[0] == self._picture.place(path) and folded_.mean_seconds is not None
            )
            parts.append(f'<p class="soft small">{rest:,} more iterations are left out{failures}. {means}</p>')
        return "".join(parts)

    def _item(self, task: Task, path: str, index: int) -> str:
        """What an iteration got, where one of its tasks takes the item as it is."""
        assert task.loop is not None
        body = task.component.implementation
        assert isinstance(body, Dag)
        for part in body.tasks:
            row = self._picture.tasks.get(f"{path}.{index}/{part.name}")
            for name, binding in part.inputs:
                if row is not None and getattr(binding, "name", None) == task.loop.item_input and name in row.inputs:
                    return f"{text(name)} = {value(row.inputs[name], 120)}"
        return ""

    def _details(self, task: Task, path: str, row: TaskRow) -> str:
        rows: list[tuple[str, str]] = []
        if row.place:
            rows.append(("where", text(row.place)))
        rows += [(f"input {name}", value(data)) for name, data in row.inputs.items()]
        if not isinstance(task.component.implementation, Dag):
            rows += [(f"output {name}", value(data)) for name, data in row.outputs.items()]
        rows += [(f"metric {name}", text(number(data))) for name, data in self._metrics.get(path, {}).items()]
        rows += [(f"artifact {port}", describe(ref)) for port, ref in self._artifacts.get(path, ())]
        parts = [pairs(rows) if rows else ""]
        if row.error is not None:
            parts.append(f"<pre>{text(cut(row.error.traceback or f'{row.error.type}: {row.error.message}', 20_000))}</pre>")
        if path in self._picture.attempts:
            parts.append(self._attempts(path))
        if path in self._logs:
            parts.append(_log(*self._logs[path]))
        return "".join(parts)

    def _attempts(self, path: str) -> str:
        rows = []
        for old in self._picture.attempts[path]:
            took = "" if old.started_at is None or old.finished_at is None else exact(old.finished_at - old.started_at)
            why = f"{old.error.type}: {old.error.message}" if old.error is not None else ""
            told = folded(text(first_line(why)), f"<pre>{text(old.error.traceback)}</pre>") if old.error is not None else ""
            rows.append((f"{old.number}", took, text(old.place or ""), text(old.reason or ""), told))
        return table(("earlier attempt", "time", "where", "then", "why"), rows)


def describe(ref: ArtifactRef) -> str:
    """An artifact with all that is recorded of it."""
    kind = text(ref.schema_title.removeprefix("system."))
    held = "external" if ref.external else "" if ref.size_bytes is None else size(ref.size_bytes)
    parts = [", ".join(part for part in (kind, held) if part)]
    if ref.uri and (ref.sha256 is not None or ref.external):
        parts.append(f"<code>{text(ref.uri)}</code>")
    if ref.sha256 is not None:
        parts.append(f'<span class="soft">sha256 <code>{text(ref.sha256)}</code></span>')
    if ref.metadata:
        parts.append(metadata(ref.metadata))
    return "<br>".join(parts)


def metadata(data: dict[str, Any]) -> str:
    return f'<span class="soft">metadata</span> {value(data)}'


def _log(lines: list[LogLine], bytes_left_out: int) -> str:
    several = len({line.attempt for line in lines}) > 1
    parts, before = [], None
    for line in lines:
        if several and line.attempt != before:
            before = line.attempt
            parts.append(f"--- attempt {line.attempt} ---\n")
        parts.append(line.text)
    whole = "".join(parts)
    count = whole.count("\n") + (not whole.endswith("\n"))
    told = f"what it wrote, {count:,} line{'' if count == 1 else 's'}"
    if bytes_left_out:
        told += f" (the end of it: {bytes_left_out:,} bytes before are left out)"
    return folded(f'<span class="soft">{told}</span>', f"<pre>{text(whole)}</pre>")
