"""Wrong answers to problems with a reference solution: mutants that parse, are really wrong, and are recognised."""

import ast
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from workflow.nano.problems import nano_problem
from workflow.nano.simulated.book import Book
from workflow.nano.simulated.puzzle import Bug
from workflow.nano.simulated.reference_puzzle import ReferencePuzzle
from workflow.nano.simulated.skill import Skill, stream
from workflow.problem import Problem
from workflow.settings import SimulatedWorkerSettings, TaskSettings
from workflow.tasks import load_problems

SAMPLE = load_problems(TaskSettings(name="humaneval", path=str(Path(__file__).parent / "data" / "humaneval_sample.jsonl")))
FULL = Path(__file__).parents[1].parent / "shared" / "data" / "humaneval.jsonl.gz"


def python_passes(problem: Problem, program: str) -> bool:
    """Whether a mutant of a data set's own solution passes every hidden test, in a process of its own."""
    code = "\n".join([problem.test_setup, program, f"candidate = {problem.entry_point}", *problem.hidden_tests])
    try:
        return subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, timeout=5).returncode == 0
    except subprocess.TimeoutExpired:
        return False


@pytest.mark.parametrize("problem", SAMPLE, ids=lambda problem: problem.id)
def test_the_program_without_bugs_passes_and_most_mutants_fail(problem: Problem) -> None:
    puzzle = ReferencePuzzle(problem)
    assert python_passes(problem, puzzle.program(()))
    mutants = [puzzle.program((Bug(site, None),)) for site in range(puzzle.sites)][:12]
    failed = [not python_passes(problem, mutant) for mutant in mutants]
    assert sum(failed) >= 0.6 * len(failed)


@pytest.mark.slow
@pytest.mark.skipif(not FULL.is_file(), reason=f"needs the full HumanEval at {FULL.name} beside the checkout")
def test_favourite_misreadings_of_humaneval_mostly_fail() -> None:
    skill = Skill(SimulatedWorkerSettings())
    failed = []
    for problem in load_problems(TaskSettings(name="humaneval", path=str(FULL))):
        puzzle = ReferencePuzzle(problem)
        assert python_passes(problem, puzzle.program(())), problem.id
        failed.append(not python_passes(problem, puzzle.program(skill.favourite(puzzle))))
    assert sum(failed) >= 0.8 * len(failed), sum(failed) / len(failed)


def test_every_problem_has_mutants_that_parse_and_differ() -> None:
    for problem in [*SAMPLE, nano_problem(0, "train", 0)]:
        puzzle = ReferencePuzzle(problem)
        programs = {puzzle.program((Bug(site, None),)) for site in range(puzzle.sites)}
        assert puzzle.program(()) not in programs and len(programs) == puzzle.sites
        assert all(ast.parse(program) for program in programs)


def test_mutants_are_the_same_in_every_process() -> None:
    code = (
        "from tests.test_simulated_mutants import *\n"
        "print([ReferencePuzzle(p).program(ReferencePuzzle(p).mistake(stream(1, p.id))) for p in SAMPLE])"
    )
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[1])
    here = [ReferencePuzzle(problem).program(ReferencePuzzle(problem).mistake(stream(1, problem.id))) for problem in SAMPLE]
    assert other.stdout.strip() == str(here)


def test_bugs_are_recognised_in_an_emitted_program_whatever_its_layout() -> None:
    puzzle = ReferencePuzzle(SAMPLE[0])
    bugs = puzzle.mistake(stream(5), puzzle.mistake(stream(6)))
    assert len(bugs) == 2
    assert puzzle.bugs("# mine\n" + puzzle.program(bugs).replace("\n", "\n\n")) == bugs
    assert puzzle.bugs(SAMPLE[0].reference or "") == ()


def test_bugs_are_recomputed_by_a_server_that_did_not_emit_the_program() -> None:
    writer = ReferencePuzzle(SAMPLE[0])
    for bugs in (writer.mistake(stream(5)), writer.mistake(stream(5), writer.mistake(stream(6)))):
        found = ReferencePuzzle(SAMPLE[0]).bugs(writer.program(bugs))
        assert found is not None and sorted(found) == sorted(bugs)


@pytest.mark.parametrize("text", ["", "not python (", "def f(: pass", "(" * 5000, "x = 1\n" * 10_000, "def other():\n    return 1\n"])
def test_foreign_text_is_no_known_program(text: str) -> None:
    assert ReferencePuzzle(SAMPLE[0]).bugs(text) is None


def test_a_revision_of_foreign_text_is_a_new_answer() -> None:
    puzzle = ReferencePuzzle(SAMPLE[0])
    answer = Skill(SimulatedWorkerSettings()).revise(puzzle, "I give up", "try", stream(1))
    assert puzzle.bugs(answer) is not None


def test_while_loops_are_not_mutated() -> None:
    reference = "def f(n):\n    while n > 3:\n        n -= 2\n    return n\n"
    puzzle = ReferencePuzzle(replace(SAMPLE[0], reference=reference))
    assert puzzle.sites == 1 and "return None" in puzzle.program((Bug(0, None),))


def test_written_tests_tell_right_from_wrong_only_by_being_false() -> None:
    puzzle = ReferencePuzzle(SAMPLE[0])
    right, wrong = puzzle.write_test(stream(1), right=True), puzzle.write_test(stream(1), right=False)
    assert puzzle.accepts(right) and not puzzle.accepts(f"Failed: {wrong}")
    names = {"has_close_elements": len}
    exec(right, dict(names))
    with pytest.raises(AssertionError):
        exec(wrong, dict(names))


def test_the_book_finds_a_problem_by_its_query_inside_other_text() -> None:
    book = Book(SAMPLE)
    for problem in SAMPLE:
        for text in (problem.query, f"Hint: be careful.\n{problem.query}\nThink."):
            known = book.find(text)
            assert known is not None and known.puzzle.key == problem.query
            assert known.has_examples == problem.has_examples
    assert book.find("def unknown(): ...") is None


def test_levels_follow_the_size_of_the_reference_unless_given() -> None:
    levels = {ReferencePuzzle(problem).level for problem in SAMPLE}
    assert levels <= set(range(1, 7)) and len(levels) > 1
    assert ReferencePuzzle(replace(SAMPLE[0], level=2)).level == 2


def test_a_set_without_references_cannot_be_played() -> None:
    with pytest.raises(ValueError, match="No problem of the task set has a reference"):
        Book([replace(SAMPLE[0], reference=None)])


@pytest.mark.parametrize(("reference", "message"), [("def f(:", "not Python"), ("x = 1", "has no function")])
def test_a_bad_reference_is_named(reference: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as refused:
        ReferencePuzzle(replace(SAMPLE[0], reference=reference))
    assert "HumanEval/0" in str(refused.value)
