"""Which problems are trained on and which are held out: never the same ones."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from launch.compose import compose_settings
from workflow.problem import Problem
from workflow.settings import TaskSettings
from workflow.tasks import TaskSet, load_tasks
from workflow.tasks.aflow import split_as_aflow
from workflow.tasks.files import write_jsonl
from workflow.tasks.overlap import find_shared, id_key, refuse_overlap, text_key

NUMBERS = json.loads((Path(__file__).parents[1] / "workflow" / "tasks" / "aflow_splits.json").read_text())
SIZES = {"train_size": 4096, "validation_size": 240, "test_size": 2000, "seed": 0}
DATA = Path(__file__).parents[1].parent / "shared" / "data"


def problem(name: str, query: str | None = None) -> Problem:
    return Problem(name, query or f"Write what {name} asks for.", "f", (), ("assert f() == 1",))


def mixed_file(path: Path) -> Path:
    """Rows named as HumanEval's, MBPP's and BigCodeBench's are."""
    names = [f"HumanEval/{n}" for n in range(164)] + [f"MBPP/{n}" for n in range(1, 975)] + [f"BigCodeBench/{n}" for n in range(300)]
    write_jsonl(path, [problem(name) for name in names])
    return path


def test_a_mixed_file_holds_out_aflows_test_problems_of_each_set(tmp_path: Path) -> None:
    tasks = load_tasks(TaskSettings(name="jsonl", path=str(mixed_file(tmp_path / "three.jsonl")), splits="aflow", test_size=2000))
    ids = {part: {one.id for one in getattr(tasks, part)} for part in ("train", "validation", "test")}
    for name, key in (("HumanEval", "humaneval"), ("MBPP", "mbpp")):
        assert {f"{name}/{number}" for number in NUMBERS[key]["test"]} <= ids["test"]
    assert sum(one.startswith("BigCodeBench") for one in ids["test"]) == 150
    assert len(ids["train"] | ids["validation"] | ids["test"]) == 164 + 974 + 300
    assert all(any(one.startswith(name) for one in ids["train"]) for name in ("HumanEval", "MBPP", "BigCodeBench"))


@pytest.mark.parametrize(("rows", "test_size", "held_out"), [(1140, 772, 300), (300, 772, 150), (1140, 240, 285)])
def test_of_a_set_without_a_published_split_as_many_are_held_out_as_the_test_has_room_for(rows: int, test_size: int, held_out: int) -> None:
    names = [f"HumanEval/{n}" for n in range(164)] + [f"MBPP/{n}" for n in range(1, 975)] + [f"BigCodeBench/{n}" for n in range(rows)]
    train, validation, _ = split_as_aflow([problem(name) for name in names], **{**SIZES, "test_size": test_size})
    assert rows - sum(one.id.startswith("BigCodeBench") for one in train + validation) == held_out


def test_a_published_sets_own_repeats_refuse_no_file(tmp_path: Path) -> None:
    rows = [problem(f"MBPP/{n}") for n in range(1, 975)]
    number = NUMBERS["mbpp"]["test"][0]
    twice = next(n for n in range(601, 975) if n not in NUMBERS["mbpp"]["test"] + NUMBERS["mbpp"]["validation"])
    rows[twice - 1] = replace(rows[twice - 1], query=rows[number - 1].query)
    write_jsonl(tmp_path / "mbpp.jsonl", rows)
    for splits in ("aflow", "seeded"):
        tasks = load_tasks(TaskSettings.model_validate({"name": "jsonl", "path": str(tmp_path / "mbpp.jsonl"), "splits": splits}))
        assert not find_shared(tasks.train, (*tasks.validation, *tasks.test))
    tasks = load_tasks(TaskSettings(name="jsonl", path=str(tmp_path / "mbpp.jsonl"), splits="aflow", test_size=2000))
    assert f"MBPP/{twice}" not in {one.id for one in tasks.train}


@pytest.mark.parametrize("prefix", ["HumanEval+/", "humaneval_plus/", "HUMANEVAL/"])
def test_other_spellings_of_a_published_id_are_held_out_too(prefix: str) -> None:
    train, _, test = split_as_aflow([problem(f"{prefix}{n}") for n in range(164)], **SIZES)
    assert {int(one.id.split("/")[1]) for one in test} == set(NUMBERS["humaneval"]["test"]) and train


def test_training_rows_of_gsm8k_are_not_its_test_rows() -> None:
    rows = [problem(f"GSM8K/train/{n}") for n in range(50)] + [problem(f"GSM8K/{n}") for n in range(1319)]
    train, _, test = split_as_aflow(rows, **SIZES)
    assert len(test) == 1055 and not any("train" in one.id for one in test)
    assert sum("train" in one.id for one in train) == 50


@pytest.mark.parametrize("experiment", ["flowreasoner_7b", "flowreasoner_14b"])
@pytest.mark.parametrize("tasks", [[], ["tasks=mbpp"], ["tasks=jsonl", "tasks.path=THREE"]])
def test_the_papers_recipes_hold_out_the_papers_test_problems(experiment: str, tasks: list[str], tmp_path: Path) -> None:
    path = mixed_file(tmp_path / "three.jsonl")
    overrides = [f"experiment={experiment}", "cluster.address=auto", *(item.replace("THREE", str(path)) for item in tasks)]
    settings = compose_settings(overrides).tasks
    assert settings.splits == "aflow"
    tasks_set = load_tasks(settings.model_copy(update={"name": "jsonl", "path": str(path), "mixture": {}}))
    held_out = {f"HumanEval/{n}" for n in NUMBERS["humaneval"]["test"]} | {f"MBPP/{n}" for n in NUMBERS["mbpp"]["test"]}
    assert not held_out & {one.id for one in tasks_set.train + tasks_set.validation}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (problem("HumanEval/0", "def f(x):\n    '''Adds one.'''"), problem("HumanEval+/0", "def f(x):\n    '''Adds 1.'''")),
        (problem("MBPP/2"), problem("mbpp_sanitized/2", "Another wording.")),
        (problem("a/1", "Write f(x):  adds one.\n"), problem("b/77", "write f(x): adds\none.")),
    ],
)
def test_one_problem_in_two_editions_is_refused_when_a_split_parts_them(one: Problem, other: Problem, tmp_path: Path) -> None:
    filler = [problem(f"filler/{n}") for n in range(38)]
    refused = 0
    for seed in range(20):
        path = tmp_path / f"{seed}.jsonl"
        write_jsonl(path, [one, *filler, other])
        try:
            tasks = load_tasks(TaskSettings(name="jsonl", path=str(path), splits="seeded", seed=seed))
        except ValueError as error:
            assert str(path) in str(error) and (one.id in str(error) or other.id in str(error)) and "\n" not in str(error)
            refused += 1
        else:
            parts = [{row.id for row in part} for part in (tasks.train, tasks.validation, tasks.test)]
            assert any({one.id, other.id} <= part for part in parts)
    assert refused


def test_problems_that_differ_in_a_sign_are_not_the_same() -> None:
    assert not find_shared([problem("a/1", "What is 3 - 4?")], [problem("a/2", "What is 3 + 4?"), problem("a/10", "What is 3 - 40?")])
    assert id_key("nano/train/3") != id_key("nano/test/3") and text_key("f(a, b)") != text_key("f(b, a)")


FUNCTION = problem(
    "HumanEval/0",
    'from typing import List\n\n\ndef f(x: List[int]) -> int:\n    """ The sum of even numbers,\n    but no odd one.\n    >>> f([1, 2])\n'
    '    \'2\\n\'\n    """\n',
)
WORDS = "Write a python function to find the first repeated character in a given string."


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (FUNCTION, problem("a/1", f"Complete the function.\n```python\n{FUNCTION.query}```\nThink first.")),
        (
            problem("MBPP/2", f"{WORDS}\n\ndef f(x):"),
            problem(
                "a/1",
                f"You are an expert Python programmer, and here is your task: {WORDS} Your code should pass these tests:\n\nf()",
            ),
        ),
        (problem("MBPP/2", f"{WORDS}\n\ndef f(x):"), problem("a/1", f"{WORDS} It ends with a letter.")),
    ],
)
def test_a_problem_within_a_prompt_is_the_same_problem(one: Problem, other: Problem) -> None:
    """Whichever of both is held out."""
    assert find_shared([one], [problem("b/1"), other]) == [(one, other)]
    assert find_shared([problem("b/1"), other], [one]) == [(other, one)]


def test_problems_that_share_a_beginning_or_few_words_are_not_the_same() -> None:
    others = [
        problem("a/2", WORDS.replace(" in a given string", "")),
        problem("a/3", f"{WORDS[:-1]} or list."),
        problem("a/4", "Add two numbers."),
    ]
    assert not find_shared(
        [problem("a/1", WORDS), problem("a/5", "Add two numbers. Then double them and give back what they are.")], others
    )


def test_signs_of_an_id_count_but_for_the_plus_of_a_known_set() -> None:
    names = ["C/1", "C++/1", "C#/1"]
    assert len({id_key(name) for name in names}) == 3
    assert id_key("HumanEval+/1") == id_key("humaneval_plus/1") == id_key("HumanEval/1") and id_key("mbpp+/1") == id_key("MBPP/1")


@pytest.mark.parametrize("parts", [(0, 1), (0, 2), (1, 2)])
def test_no_two_parts_may_share_a_problem(parts: tuple[int, int]) -> None:
    three = [[problem(f"{name}/{n}") for n in range(3)] for name in ("a", "b", "c")]
    three[parts[0]].append(replace(three[parts[1]][0]))
    with pytest.raises(ValueError, match=r"^1 of 4 (training|validation) problems of x\.jsonl are"):
        refuse_overlap(*three, place="x.jsonl")


@pytest.mark.parametrize(
    ("name", "file", "held_out"),
    [("humaneval", "humaneval.jsonl.gz", 131), ("mbpp", "mbpp.jsonl.gz", 341), ("mbpp_sanitized", "mbpp_sanitized.json.gz", 341)],
)
@pytest.mark.parametrize("splits", ["seeded", "aflow"])
def test_published_files_split_without_overlap(name: str, file: str, held_out: int, splits: str) -> None:
    if not (DATA / file).is_file():
        pytest.skip(f"needs the published file {file} beside the checkout")
    for seed in range(3):
        settings = {"name": name, "path": str(DATA / file), "splits": splits, "seed": seed, "test_size": 2000}
        tasks: TaskSet = load_tasks(TaskSettings.model_validate(settings))
        assert not find_shared(tasks.train, (*tasks.validation, *tasks.test)) and not find_shared(tasks.validation, tasks.test)
        assert splits == "seeded" or len(tasks.test) == held_out
