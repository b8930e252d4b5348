"""What authors import: components, pipelines, artifacts and control flow, by the names of Kubeflow Pipelines' SDK."""

from flowcore.artifacts.types import HTML, Artifact, Dataset, Markdown, Metrics, Model
from flowcore.dsl.annotations import Input, InputPath, Output, OutputPath
from flowcore.dsl.component import component
from flowcore.dsl.control import Collected, Condition, Elif, Else, If, OneOf, ParallelFor
from flowcore.dsl.frames import PipelineTask
from flowcore.dsl.pipeline import pipeline
from flowcore.worker import report_value


def report(step: int, value: float, name: str = "objective") -> None:
    """Report a value of the running task at ``step`` (a whole number from 0 on): recorded, and an event while it runs.

    Outside a run it does nothing, so that a component's function can be called by hand.
    """
    report_value(step, value, name)


__all__ = [
    "HTML",
    "Artifact",
    "Collected",
    "Condition",
    "Dataset",
    "Elif",
    "Else",
    "If",
    "Input",
    "InputPath",
    "Markdown",
    "Metrics",
    "Model",
    "OneOf",
    "Output",
    "OutputPath",
    "ParallelFor",
    "PipelineTask",
    "component",
    "pipeline",
    "report",
]
