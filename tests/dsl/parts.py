"""Components that the tests of the language share."""

from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional  # noqa: UP035  authors write both ways

from flowcore import dsl
from flowcore.dsl import Dataset, Input, Model, Output


class Split(NamedTuple):
    train: int
    test: float


@dsl.component
def number(value: int = 1) -> int:
    return value


@dsl.component
def add(a: int, b: int = 2) -> int:
    return a + b


@dsl.component
def half(value: float) -> float:
    return value / 2


@dsl.component
def is_big(value: int) -> bool:
    return value > 10


@dsl.component
def text(value: str) -> str:
    return value


@dsl.component
def total(values: List[int]) -> int:  # noqa: UP006
    return sum(values)


@dsl.component
def numbers(count: int) -> List[int]:  # noqa: UP006
    return list(range(count))


@dsl.component
def kind_of(value: list) -> str:  # type: ignore[type-arg]
    return repr(value)


@dsl.component
def shown(value: Dict[str, Any]) -> str:  # noqa: UP006
    return repr(value)


@dsl.component
def configs(count: int) -> List[Dict[str, int]]:  # noqa: UP006
    return [{"type": place, "path": place * 10} for place in range(count)]


@dsl.component
def split(rows: int) -> Split:
    return Split(rows - 1, 1.0)


@dsl.component
def maybe(value: Optional[int] = None) -> str:  # noqa: UP045
    return repr(value)


@dsl.component
def write(content: str, data: Output[Dataset]) -> int:
    Path(data.path).write_text(content)
    return len(content)


@dsl.component
def read(data: Input[Dataset]) -> str:
    return Path(data.path).read_text()


@dsl.component
def read_all(data: Input[List[Dataset]]) -> str:  # noqa: UP006
    return ",".join(Path(part.path).read_text() for part in data)


@dsl.component
def train(data: Input[Dataset], model: Output[Model]) -> None:
    model.framework = "none"
    Path(model.path).write_text(Path(data.path).read_text().upper())
