"""The procedural problems: deterministic, disjoint, balanced, discriminating."""

import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from workflow.nano.composition import align, read_program, replace_steps, single_changes, write_program
from workflow.nano.problems import find_query, nano_problem, split_of
from workflow.nano.steps import VERBS, Step, meaning, weight
from workflow.problem import Problem
from workflow.settings import TaskSettings
from workflow.tasks import load_tasks

ROOT = Path(__file__).parents[1]
SMALL = TaskSettings(name="nano", train_size=240, validation_size=120, test_size=120, seed=3)


def passes(program: str, tests: tuple[str, ...]) -> list[bool]:
    """Runs one of our own programs; these tests hold no foreign code."""
    names: dict[str, object] = {}
    exec(program, names)

    def holds(test: str) -> bool:
        try:
            exec(test, dict(names))
        except Exception:
            return False
        return True

    return [holds(test) for test in tests]


@pytest.fixture(scope="module")
def problems() -> tuple[Problem, ...]:
    tasks = load_tasks(SMALL)
    return tasks.train + tasks.validation + tasks.test


def steps_of(problem: Problem) -> tuple[Step, ...]:
    found = find_query(problem.query)
    assert found is not None
    return found[1]


def test_the_same_seed_gives_the_same_problems_in_another_process() -> None:
    code = "from workflow.nano.problems import nano_problem; print([nano_problem(3, 'test', i) for i in range(5)])"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert other.stdout.strip() == str([nano_problem(3, "test", index) for index in range(5)])


def test_seeds_give_different_problems() -> None:
    assert nano_problem(0, "train", 0) != nano_problem(1, "train", 0)


def test_a_larger_set_begins_with_the_smaller_one() -> None:
    smaller = load_tasks(TaskSettings(name="nano", train_size=24, validation_size=12, test_size=12, seed=3))
    assert load_tasks(SMALL).train[:24] == smaller.train


def test_every_reference_passes_all_tests(problems: tuple[Problem, ...]) -> None:
    for problem in problems:
        assert problem.reference is not None
        assert all(passes(problem.reference, problem.public_tests + problem.hidden_tests)), problem.id


def test_every_program_with_a_step_missing_or_misread_fails_a_hidden_test(problems: tuple[Problem, ...]) -> None:
    for problem in problems[:120]:
        steps = steps_of(problem)
        for index, wrong, _ in single_changes(steps):
            assert not all(passes(write_program(replace_steps(steps, {index: wrong})), problem.hidden_tests)), (problem.query, index, wrong)


def test_dropping_any_step_is_visible(problems: tuple[Problem, ...]) -> None:
    for problem in problems:
        steps = steps_of(problem)
        dropped = {index for index, wrong, shows in single_changes(steps) if wrong is None and shows >= 0.7}
        assert dropped == set(range(len(steps))), problem.query


def test_no_composition_is_in_two_splits_whatever_the_seed() -> None:
    seen: dict[tuple[Step, ...], str] = {}
    for seed in (0, 1):
        for split in ("train", "validation", "test"):
            for index in range(180):
                steps = steps_of(nano_problem(seed, split, index))
                assert seen.setdefault(steps, split) == split == split_of(steps)


def test_each_split_has_several_compositions_of_level_1() -> None:
    for split in ("train", "validation", "test"):
        easy = {steps_of(problem) for index in range(600) if (problem := nano_problem(0, split, index)).level == 1}
        assert len(easy) >= 6, split


def test_levels_and_examples_are_balanced() -> None:
    for part in (load_tasks(SMALL).validation, load_tasks(SMALL).test):
        cells = Counter((problem.level, problem.has_examples) for problem in part)
        assert cells == {(level, example): 10 for level in range(1, 7) for example in (True, False)}


def test_the_example_is_shown_exactly_where_there_is_a_public_test(problems: tuple[Problem, ...]) -> None:
    for problem in problems:
        if problem.has_examples:
            assert problem.query.endswith(f" Example: {problem.public_tests[0].removeprefix('assert ')}.")
        else:
            assert "Example" not in problem.query and "==" not in problem.query


def test_eight_hidden_tests_are_distinct_and_not_public(problems: tuple[Problem, ...]) -> None:
    for problem in problems:
        assert len(set(problem.hidden_tests) | set(problem.public_tests)) == 8 + len(problem.public_tests)


def test_queries_stay_short(problems: tuple[Problem, ...]) -> None:
    sizes = [len(problem.query.split()) for problem in problems]
    assert max(sizes) <= 60 and sum(sizes) / len(sizes) < 30


def test_a_query_is_read_back_into_its_steps_inside_other_text(problems: tuple[Problem, ...]) -> None:
    for problem in problems:
        found = find_query(f"Please help.\n<problem>\n{problem.query}\n</problem>\nHint: sort first. Then think.")
        assert found is not None
        assert write_program(found[1]) == problem.reference and weight(found[1]) == problem.level


@pytest.mark.parametrize(
    "text", ["", "Write f(xs) that does magic.", "Write f(xs) that sorts the list, then does magic.", "sorts the list"]
)
def test_a_foreign_query_is_not_read_as_steps(text: str) -> None:
    assert find_query(text) is None


def test_every_verb_can_be_written_and_read_back() -> None:
    for name, verb in VERBS.items():
        steps = (Step("sort"), Step(name, 2 if "{k}" in verb.expression else 0))
        assert read_program(f"Sure!\n```python\n{write_program(steps)}```") == steps


@pytest.mark.parametrize(
    "text", ["", "xs = sorted(xs)", "def f(xs):\n    import os\n    return xs\n", "def f(xs):\n    return sum(xs)\n    xs = xs[::-1]\n"]
)
def test_foreign_code_is_not_read_as_a_program(text: str) -> None:
    assert read_program(text) is None


def test_misreadings_stay_reducers_where_the_step_is_one() -> None:
    for verb in VERBS.values():
        assert all(VERBS[name].reduces == verb.reduces for name, _ in verb.misreadings)


def test_steps_accept_the_empty_list() -> None:
    for name, verb in VERBS.items():
        assert meaning(Step(name, 2))([]) in ([], 0), verb


def test_alignment_finds_the_fewest_changes() -> None:
    steps = (Step("sort"), Step("square"), Step("sum"))
    assert align(steps, steps) == ()
    assert align(steps, (Step("sort"), Step("sum"))) == ((1, None),)
    assert align(steps, (Step("sort_down"), Step("square"), Step("sum"))) == ((0, Step("sort_down")),)
    assert align(steps, (*steps, Step("sum"))) is None


def test_nano_refuses_a_path() -> None:
    with pytest.raises(ValueError, match=r"tasks\.path='x' has no meaning for tasks\.name='nano'"):
        load_tasks(TaskSettings(name="nano", path="x"))
