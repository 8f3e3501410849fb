"""A few workflows that the policy wrote late in training, drawn and with their code."""

from dataclasses import dataclass

from markupsafe import Markup

from launch.report.graph import workflow_svg
from launch.report.run_data import RunData, Shape
from workflow.language.parse import find_source
from workflow.language.reasoning import format_reasoning

BANDS = ("easy", "medium", "hard", "all")


@dataclass(frozen=True)
class Example:
    """The most frequent workflow for one kind of query."""

    queries: str
    share: str
    calls: str
    passed: str
    reasoning: str
    source: str
    graph: Markup


def example_workflows(run: RunData) -> list[Example]:
    """The most frequent topology for each difficulty band, with and without examples in the query."""
    found: list[Example] = []
    for name in BANDS:
        for has_examples in (True, False):
            shapes = run.shapes.get((name, has_examples))
            if shapes:
                found += _example(name, has_examples, shapes)
    return found


def _example(name: str, has_examples: bool, shapes: list[Shape]) -> list[Example]:
    shape = shapes[0]
    source = find_source(shape.text)  # not parsed: its operators may be registered in the run's processes alone
    if source is None:
        return []
    levels = sorted(shape.levels)
    where = f", level {levels[0]}{f' to {levels[-1]}' if len(levels) > 1 else ''}" if levels else ""
    difficulty = f"{name.capitalize()} queries" if name != "all" else "Queries"
    total = sum(other.seen for other in shapes)
    reasoning = format_reasoning(shape.text)
    return [
        Example(
            queries=f"{difficulty} {'with' if has_examples else 'without'} examples{where}",
            share=f"{shape.seen / total:.0%} of the episodes",
            calls=f"{shape.calls / shape.runs:.2f} worker calls" if shape.runs else "",
            passed=f"{shape.passed / shape.runs:.0%} passed" if shape.runs else "",
            reasoning=reasoning if len(reasoning) <= 600 else f"{reasoning[:600]} ...",
            source=source.strip(),
            graph=Markup(workflow_svg(source)),
        )
    ]
