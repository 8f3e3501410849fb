"""Plays the two models: from chat messages to the reply's text. No I/O, no state beyond caches.

The operators' requests are told apart by their system messages. A ``custom`` prompt, or that of an operator which a package
adds, is understood by its words and by what it quotes: several programs are voted on, one program is reviewed or revised, no
program means a list of steps or a first draft. Its instruction never makes an answer better than ``generate``'s.
"""

import random
import re
from collections.abc import Sequence

from workflow.nano.simulated.book import Book, Known
from workflow.nano.simulated.job import Job, find_quoted_functions, read_job
from workflow.nano.simulated.number_puzzle import NumberPuzzle
from workflow.nano.simulated.puzzle import Puzzle
from workflow.nano.simulated.skill import Skill, stream
from workflow.nano.simulated.teacher import teach
from workflow.operators import OPERATORS
from workflow.operators.ensemble import LETTERS
from workflow.settings import SimulatedWorkerSettings
from workflow.worker.interface import Message

WORKER_MODEL = "simulated-worker"
TEACHER_MODEL = "simulated-teacher"
MODELS = (WORKER_MODEL, TEACHER_MODEL)

PLAYED = ("generate", "test", "review", "revise", "ensemble", "answer", "program", "format")
"""Operators whose requests are known by their system message; all others are understood as ``custom`` ones."""

UNKNOWN_PROBLEM = "I am a simulated worker and know only the problems of the task set that I serve; this is none of them."

_ASKS_OUTLINE = re.compile(r"\b(outline|plan|list|steps|idea|approach)\b", re.IGNORECASE)
_ASKS_CODE = re.compile(r"\b(code|function|program|implement|solve|solution|write)\b", re.IGNORECASE)
_ASKS_REVIEW = re.compile(r"\b(review|criti\w*|argue|weak\w*|judge|find (the )?(bugs|mistakes|errors))\b", re.IGNORECASE)


class Player:
    """Answers as the simulated worker or the simulated teacher."""

    def __init__(self, settings: SimulatedWorkerSettings, book: Book) -> None:
        self.settings = settings
        self.book = book
        self.skill = Skill(settings)
        self._systems = {OPERATORS[name].system: name for name in PLAYED}

    def answer(self, model: str, messages: Sequence[Message], sample: object) -> str:
        """The reply to a chat; equal arguments give equal replies.

        Args:
            model: one of ``MODELS``.
            sample: tells repeated requests apart, such as (seed, index).
        """
        rng = stream(self.settings.seed, model, *(part for message in messages for part in message.values()), sample)
        if model == TEACHER_MODEL:
            query = next(message["content"] for message in messages if message["role"] == "user")  # then come rounds and feedback on them
            known = self.book.find(query)
            return UNKNOWN_PROBLEM if known is None else teach(known, self.settings, rng)
        job = read_job(messages, self._systems)
        known = self.book.find(job.problem)
        return UNKNOWN_PROBLEM if known is None else self._work(job, known, rng)

    def _work(self, job: Job, known: Known, rng: random.Random) -> str:
        skill, puzzle = self.skill, known.puzzle
        program = job.programs[0] if job.programs else ""
        match job.operator:
            case "review":
                review = skill.review(puzzle, program, rng)
                return "Verdict: approved" if review.approved else f"Verdict: rejected\n{review.notes}"
            case "revise":
                quoted = [text.strip() for text in find_quoted_functions(job.feedback)]
                shown = quoted if program.strip() in quoted else [program, *quoted]  # a debater takes over what most wrote
                return _write_reply(puzzle, skill.revise(puzzle, shown[skill.vote(puzzle, shown)], job.feedback, rng))
            case "test":
                return _fence(skill.write_test(puzzle, rng))
            case "ensemble":
                return LETTERS[skill.vote(puzzle, job.programs)]
            case "format":
                return f"<answer>{program.rpartition('#### ')[2]}</answer>"
            case "answer":
                return f"<answer>{skill.generate(puzzle, rng).rpartition('#### ')[2]}</answer>"
            case "program" if isinstance(puzzle, NumberPuzzle):
                return _fence(f"def solve():\n    return {skill.generate(puzzle, rng).rpartition('#### ')[2]}")
            case "custom":
                return self._custom(job, puzzle, rng)
        return _write_reply(puzzle, skill.generate(puzzle, rng))

    def _custom(self, job: Job, puzzle: Puzzle, rng: random.Random) -> str:
        asked = job.instruction
        if len(job.programs) > 1:
            return _write_reply(puzzle, job.programs[self.skill.vote(puzzle, job.programs)])
        if job.programs and _ASKS_REVIEW.search(asked):
            review = self.skill.review(puzzle, job.programs[0], rng)
            return "I find no mistake." if review.approved else review.notes
        if job.programs:
            return _write_reply(puzzle, self.skill.revise(puzzle, job.programs[0], job.feedback, rng))
        if _ASKS_OUTLINE.search(asked) and not _ASKS_CODE.search(asked):
            return "\n".join(f"{site + 1}. {puzzle.describe(site)}" for site in range(puzzle.sites))
        return _write_reply(puzzle, self.skill.generate(puzzle, rng))


def _write_reply(puzzle: Puzzle, solution: str) -> str:
    """A solution as a model writes it: code in a fence, a worked answer as it is."""
    return solution if isinstance(puzzle, NumberPuzzle) else _fence(solution)


def _fence(code: str) -> str:
    return f"```python\n{code.rstrip()}\n```"
