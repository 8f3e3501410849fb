"""Reads a chat request of an operator: which operator asks, about which problem, with which programs and feedback."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from workflow.code import extract_code
from workflow.worker.interface import Message

_OPENINGS = {
    tag: re.compile(rf"<{tag}(?: [^>]{{0,99}})?>\n?") for tag in ("problem", "solution", "feedback", "candidate", "input", "instruction")
}
_FENCED = re.compile(r"```(?:python|py)?[^\S\n]*\n(.*?)```", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Job:
    """What an operator wants done."""

    operator: str
    """Name of the operator; ``custom`` where the system message is none of the operators'."""
    problem: str
    """Text that holds the query."""
    programs: tuple[str, ...]
    """Programs in the request, code only: the solution, the candidates, or what a custom prompt quotes."""
    feedback: str
    instruction: str


def read_job(messages: Sequence[Message], systems: Mapping[str, str]) -> Job:
    """The job in a request.

    Args:
        systems: the operators' system messages -> the operator's name.
    """
    system = messages[0]["content"] if messages[0]["role"] == "system" else ""
    operator = systems.get(system, "custom")
    text = "\n".join(message["content"] for message in messages if message["role"] != "system")
    parts = {tag: list(_between(text, tag)) for tag in _OPENINGS}
    if operator == "custom":
        programs = (
            [extract_code(part) for part in parts["solution"] + parts["candidate"]] or _FENCED.findall(text) or find_quoted_functions(text)
        )
        instruction = "\n".join(parts["instruction"]) or text
        return Job(operator, text, tuple(programs), text, instruction)
    programs = [extract_code(part) for part in (parts["candidate"] if operator == "ensemble" else parts["solution"][:1])]
    problem = parts["problem"][0] if parts["problem"] else text
    return Job(operator, problem, tuple(programs), "\n".join(parts["feedback"]), "\n".join(parts["instruction"]))


def _between(text: str, tag: str) -> Iterator[str]:
    """What stands between opening and closing tags; by hand, since a pattern would look for the end again from every opening."""
    at = 0
    while (opening := _OPENINGS[tag].search(text, at)) and (end := text.find(f"</{tag}>", opening.end())) >= 0:
        yield text[opening.end() : end].removesuffix("\n")
        at = end


def find_quoted_functions(text: str) -> list[str]:
    """Bare function definitions in running text."""
    return re.findall(r"^def \w+\(.*\n(?:(?:[ \t].*)?\n)+", text, re.MULTILINE)
