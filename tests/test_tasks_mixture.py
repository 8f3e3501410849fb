"""Several sets together: each is split by itself, drawn by its weight, and never both trained on and held out."""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from launch.compose import compose_settings
from trainer.algorithm.data_order import problem_at, tag_at
from workflow.problem import Problem
from workflow.settings import TaskSettings
from workflow.tasks import TaskSet, check_tasks, load_tasks
from workflow.tasks.files import write_jsonl

DATA = Path(__file__).parents[1].parent / "shared" / "data"
PUBLISHED = {"humaneval": "humaneval.jsonl.gz", "mbpp": "mbpp.jsonl.gz", "bigcodebench": "bigcodebench.jsonl.gz"}


def problem(name: str, query: str | None = None, **fields: Any) -> Problem:
    return Problem(name, query or f"Write what {name} asks for.", "f", (), ("assert f() == 1",), **fields)


def file_of(folder: Path, name: str, rows: int = 40) -> str:
    write_jsonl(folder / f"{name}.jsonl", [problem(f"{name}/{number}", source=name) for number in range(rows)])
    return str(folder / f"{name}.jsonl")


def settings_of(sets: dict[str, dict[str, Any]], **others: Any) -> TaskSettings:
    return TaskSettings.model_validate({"name": "mixture", "mixture": sets, **others})


def two_sets(folder: Path, **own: dict[str, Any]) -> TaskSettings:
    return settings_of({name: {"name": "jsonl", "path": file_of(folder, name), **own.get(name, {})} for name in ("a", "b")})


def sizes(tasks: TaskSet, source: str) -> tuple[int, ...]:
    return tuple(sum(one.source == source for one in part) for part in (tasks.train, tasks.validation, tasks.test))


def test_each_set_of_a_mixture_is_split_by_itself_and_with_its_own_sizes(tmp_path: Path) -> None:
    tasks = load_tasks(two_sets(tmp_path, b={"train_size": 5, "validation_size": 3, "test_size": 4}))
    assert sizes(tasks, "a") == (20, 10, 10) and sizes(tasks, "b") == (5, 3, 4)
    assert "20 a, 5 b" in tasks.describe()


def test_the_sets_are_mixed_in_every_part_whatever_is_taken_of_it(tmp_path: Path) -> None:
    tasks = load_tasks(two_sets(tmp_path))
    assert {one.source for one in tasks.validation[:10]} == {"a", "b"} == {one.source for one in tasks.test[:10]}


def test_a_set_may_be_trained_on_alone_and_another_held_out_alone(tmp_path: Path) -> None:
    tasks = load_tasks(
        two_sets(tmp_path, a={"validation_size": 0, "test_size": 0}, b={"train_size": 0, "validation_size": 0, "test_size": 40})
    )
    assert sizes(tasks, "a") == (40, 0, 0) and sizes(tasks, "b") == (0, 0, 40)


def test_a_set_takes_what_it_does_not_say_from_the_mixture(tmp_path: Path) -> None:
    tests = tuple(f"assert f({number}) == {number}" for number in range(4))
    write_jsonl(tmp_path / "x.jsonl", [replace(problem(f"x/{number}"), hidden_tests=tests) for number in range(8)])
    sets = {name: {"name": "jsonl", "path": str(tmp_path / "x.jsonl")} for name in ("x",)}
    assert not any(one.has_examples for one in load_tasks(settings_of(sets)).train)
    assert all(len(one.public_tests) == 2 for one in load_tasks(settings_of(sets, public="share", public_share=0.5)).train)
    sets["x"]["public"] = "examples"
    assert not any(one.has_examples for one in load_tasks(settings_of(sets, public="share")).train)


@pytest.mark.parametrize(("weight", "each"), [(1.0, {4}), (2.0, {8}), (0.5, {2}), (1.25, {5}), (0.25, {1})])
def test_a_weight_says_how_often_the_problems_of_a_set_are_drawn(weight: float, each: set[int]) -> None:
    problems = [problem(f"a/{number}") for number in range(8)] + [problem(f"b/{number}", weight=weight) for number in range(12)]
    epochs = 4 * (8 + round(12 * weight))
    drawn = Counter(problem_at(position, problems, 7).id for position in range(epochs))
    assert {drawn[f"a/{number}"] for number in range(8)} == {4}
    assert {drawn[f"b/{number}"] for number in range(12)} == each


def test_positions_of_one_problem_have_names_of_their_own_under_any_weights() -> None:
    problems = [problem("a/0"), problem("a/1", weight=3.0), problem("a/2", weight=0.5)]
    names = [(tag_at(position, problems, 4), problem_at(position, problems, 2).id) for position in range(60)]
    assert len(set(names)) == len(names)
    assert names[17:] == [(tag_at(position, problems, 4), problem_at(position, problems, 2).id) for position in range(17, 60)]


@pytest.mark.parametrize("weight", [0.0, -1.0, float("inf"), float("nan")])
def test_a_row_with_a_weight_that_draws_nothing_is_refused(weight: float, tmp_path: Path) -> None:
    write_jsonl(tmp_path / "x.jsonl", [problem(f"x/{number}", weight=weight) for number in range(8)])
    with pytest.raises(ValueError, match="has the weight"):
        load_tasks(TaskSettings(name="jsonl", path=str(tmp_path / "x.jsonl")))


@pytest.mark.parametrize(
    ("twin", "query"),
    [
        ("humaneval_plus/3", "Another wording."),
        ("other/3", "write WHAT\n a/3   asks for."),
        ("other/3", "def f(x):\n    '''Write what a/3 asks for.'''\n"),
        ("other/3", "Write what a/3 asks for.\n\ndef f(a, b):"),
    ],
)
def test_one_problem_in_two_sets_is_refused_when_one_is_held_out(twin: str, query: str, tmp_path: Path) -> None:
    ids = {"humaneval_plus/3": "HumanEval/3"}
    write_jsonl(tmp_path / "a.jsonl", [problem(ids.get(twin, "a/3"), "Write what a/3 asks for."), *map(problem, ("a/4", "a/5", "a/6"))])
    write_jsonl(tmp_path / "b.jsonl", [problem(twin, query), *map(problem, ("b/4", "b/5", "b/6"))])
    sizes = {"a": {"train_size": 4, "validation_size": 0, "test_size": 0}, "b": {"train_size": 0, "validation_size": 0, "test_size": 4}}
    sets = {name: {"name": "jsonl", "path": str(tmp_path / f"{name}.jsonl"), "splits": "seeded", **sizes[name]} for name in ("a", "b")}
    with pytest.raises(ValueError, match=r"^1 of 4 training problems of a, b are test problems, too"):
        load_tasks(settings_of(sets))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"name": "mixture"}, "name them in tasks.mixture"),
        ({"name": "jsonl", "mixture": {"nano": {}}}, "set tasks.name=mixture"),
        ({"name": "mixture", "mixture": {"nano": {}}, "path": "x"}, r"such as tasks\.mixture\.nano\.path"),
        ({"name": "mixture", "mixture": {"mbpq": {}}}, r"tasks\.mixture\.mbpq\.name=mbpq is unknown; the nearest is mbpp"),
        ({"name": "mixture", "mixture": {"mbpp": {"path": "/no/x"}}}, r"^tasks\.mixture\.mbpp\.path='/no/x' is not a file"),
        ({"name": "mixture", "mixture": {"mbpp": {"train_size": 0}}}, r"tasks\.mixture\.mbpp\.train_size=null"),
        ({"name": "mixture", "mixture": {"mbpp": {"test_size": 0}}}, r"tasks\.mixture\.mbpp\.test_size=null"),
        ({"name": "mixture", "mixture": {"mixture": {}}}, r"tasks\.mixture\.mixture\.name='mixture' needs its sets"),
    ],
)
def test_a_mixture_that_cannot_be_loaded_is_refused_in_the_words_of_its_settings(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        raise ValueError(check_tasks(TaskSettings.model_validate(settings)))


def test_a_fault_in_the_file_of_one_set_is_told_with_its_place(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_text(json.dumps({"task_id": 1}) + "\n")
    with pytest.raises(ValueError, match=r"x\.jsonl, line 1 is no problem of humaneval"):
        load_tasks(settings_of({"humaneval": {"path": str(tmp_path / "x.jsonl")}}))


def test_sets_are_named_and_changed_on_the_command_line(tmp_path: Path) -> None:
    path = file_of(tmp_path, "own")
    own = [f"tasks.mixture.own.{value}" for value in (f"path={path}", "name=jsonl", "weight=0.5")]
    settings = compose_settings(["tasks=mixture", *own, "tasks.mixture.nano.test_size=3"]).tasks
    assert settings.mixture["own"].weight == 0.5 and settings.mixture["nano"].test_size == 3
    tasks = load_tasks(settings)
    assert {one.source: one.weight for one in tasks.train} == {"own": 0.5, "nano": 1.0}


@pytest.fixture(scope="module")
def papers() -> TaskSet:
    missing = [file for file in PUBLISHED.values() if not (DATA / file).is_file()]
    if missing:
        pytest.skip(f"needs the published file {missing[0]} beside the checkout")
    paths = [f"tasks.mixture.{name}.path={DATA / file}" for name, file in PUBLISHED.items()]
    return load_tasks(compose_settings(["experiment=flowreasoner_7b", "cluster.device=cpu", *paths]).tasks)


def test_the_papers_problems_give_feedback_on_more_than_95_in_100(papers: TaskSet) -> None:
    everything = (*papers.train, *papers.validation, *papers.test)
    for source in PUBLISHED:
        own = [one for one in everything if one.source == source]
        assert sum(one.has_examples for one in own) / len(own) > 0.95, source
    assert all(one.hidden_tests and not set(one.public_tests) & set(one.hidden_tests) for one in everything)


def test_the_papers_test_problems_are_held_out_of_all_three_sets(papers: TaskSet) -> None:
    assert {source: sizes(papers, source)[2] for source in PUBLISHED} == {"humaneval": 131, "mbpp": 341, "bigcodebench": 150}
    assert all(sizes(papers, source)[0] for source in PUBLISHED)
    numbers = json.loads((Path(__file__).parents[1] / "workflow" / "tasks" / "aflow_splits.json").read_text())
    held_out = {f"HumanEval/{number}" for number in numbers["humaneval"]["test"]} | {f"MBPP/{number}" for number in numbers["mbpp"]["test"]}
    assert not held_out & {one.id for one in (*papers.train, *papers.validation)}
