"""Several workers in one run: settings, what a policy is told, what a workflow may ask, who is asked and at whose price."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest

from conf.schema import load
from launch.compose import compose_settings
from reward.settings import RewardSettings
from rollout.groups.collect import Collector
from rollout.prompt.meta_prompt import prompt_text
from rollout.prompt.template import PromptTemplate
from rollout.settings import RolloutSettings
from sandbox.call_context import NamedWorker
from sandbox.records import Execution
from sandbox.sandbox import Sandbox
from sandbox.settings import BudgetSettings, SandboxSettings
from tests.demo import demo_values
from tests.sandbox_parts import ANSWER, PROBLEM, ScriptedWorker
from tests.scripted_parts import SINGLE_CALL, ScriptedRenderer, ScriptedRunner, ScriptedSampler, problem, run
from trainer.metrics.step import group_metrics
from trainer.run.state import changes, may_change
from workflow.language.parse import parse_workflow
from workflow.nano.problems import nano_problem
from workflow.nano.simulated.book import Book
from workflow.nano.simulated.player import Player
from workflow.operators import OPERATORS, Operator
from workflow.outcome import Outcome
from workflow.program import Refusal, Workflow
from workflow.settings import SimulatedWorkerSettings
from workflow.worker.interface import Message

LARGE = {"model": "l", "prompt_dollars_per_million": 2.5, "completion_dollars_per_million": 10.0, "strength": "Harder problems."}
NAMES = ("default", "large")


def config(**large: Any) -> Any:
    return load(demo_values({"worker": {"strength": "Easy ones."}, "workers": {"large": LARGE | large}}))


def asks(*calls: str) -> Workflow | Refusal:
    lines = "\n".join(f"        x = await self.{call}" for call in calls)
    return parse_workflow(f"class Workflow:\n    async def __call__(self, problem):\n{lines}\n        return x", NAMES)


def test_a_named_worker_has_what_it_does_not_say_from_the_worker():
    settings = config(timeout_s=7.0)
    (large,) = settings.workers.values()
    assert (large.model, large.timeout_s, large.provider, large.max_tokens) == ("l", 7.0, "simulated", settings.worker.max_tokens)
    assert load(settings.model_dump(mode="json")) == settings, "a saved run says all of it"
    assert not compose_settings().workers and compose_settings().crew == ()
    composed = compose_settings(
        ["workers.large.model=l", *(f"workers.large.{one}_dollars_per_million=1" for one in ("prompt", "completion"))]
    )
    assert composed.workers["large"].model == "l"


@pytest.mark.parametrize(
    ("workers", "said"),
    [
        ({"large": {"model": "l"}}, r"workers\.large\.prompt_dollars_per_million is not set, and its model 'l' is not the worker's"),
        ({"large": LARGE | {"modle": "m"}}, r"workers\.large\.modle.*no such setting"),
        ({"default": {}}, "workers has the name 'default'"),
        ({"a b": {}}, "workers has the name 'a b'"),
        ({"large": {"provider": "endpoint"}}, r"workers\.large\.base_url is not set"),
        ({"large": {"temperature": 3.0}}, r"workers\.large\.temperature=3\.0"),
        ({"large": 7}, r"workers\.large=7"),
    ],
)
def test_a_named_worker_that_cannot_be_asked_is_refused_by_its_name(workers: Mapping[str, Any], said: str):
    with pytest.raises(ValueError, match=said):
        load(demo_values({"workers": workers}))


def test_a_resumed_run_has_the_same_workers_wherever_they_answer():
    assert may_change("workers.large.base_url") and not may_change("workers.large.model") and not may_change("workers")
    one, other = config().model_dump(), compose_settings().model_dump()
    assert "workers" in changes(one, other) and "workers" in changes(other, one) and not changes(one, one)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        ("generate(problem, worker='larg')", "there is no worker 'larg': did you mean 'large'?"),
        ("test(problem, 'x', worker=3)", "there is no worker 3: The workers are 'default', 'large'"),
    ],
)
def test_a_worker_that_does_not_exist_is_refused_before_anything_runs(call: str, said: str):
    refusal = asks("generate(problem)", call)
    assert isinstance(refusal, Refusal) and (refusal.outcome, refusal.line) == (Outcome.FORBIDDEN, 4) and said in refusal.message


def test_workers_that_exist_are_asked_by_any_operator_and_make_another_workflow():
    large, none = asks("generate(problem, worker='large')", "review(problem, x, worker='default')"), asks("generate(problem)")
    assert isinstance(large, Workflow) and isinstance(none, Workflow) and large.fingerprint != none.fingerprint
    assert isinstance(asks("generate(problem, worker=str('large'))"), Workflow), "what is not written out is looked at when it is asked"


def test_a_run_with_one_worker_knows_no_names():
    refusal = parse_workflow(SINGLE_CALL.replace("(problem)", "(problem, worker='large')"))
    assert isinstance(refusal, Refusal) and "this run has one worker: leave worker= out" in refusal.message


async def test_an_episode_is_parsed_with_the_names_of_its_run():
    def collector(names: tuple[str, ...]) -> Collector:
        text = SINGLE_CALL.replace("(problem)", "(problem, worker='large')")
        runner = ScriptedRunner(lambda *_: run(Outcome.PASSED, passed=4))
        return Collector(ScriptedSampler([text]), runner, ScriptedRenderer(), RolloutSettings(group_size=2), RewardSettings(), 0, names)

    for names, valid in ((NAMES, True), ((), False)):
        (group,) = await collector(names).collect([problem(0)], tag="t")
        assert all((episode.rounds[0].workflow is not None) is valid for episode in group.episodes)


@pytest.mark.parametrize("name", ["full", "reasoning"])
def test_the_policy_is_told_of_workers_and_prices_only_where_there_are_several(name: str):
    template, facts = PromptTemplate("model.meta_prompt", name), config().prompt_facts
    text = prompt_text(template, problem(0), facts)
    assert '`worker="NAME"`' in text and "without it `default` is asked" in text
    assert "- large: l, 2.5 of the prompt, 10.0 of the reply. Harder problems.\n" in text and " Easy ones.\n" in text
    assert "worker=" not in prompt_text(template, problem(0))
    own = PromptTemplate("model.meta_prompt", "{{ query }}{% for one in workers %} {{ one.name }}{% endfor %}")
    assert prompt_text(own, problem(0), facts) == f"{problem(0).query} default large"


def test_no_operator_has_a_parameter_of_that_name():
    class Asking(Operator):
        """Asks."""

        system = prompt = "Ask."

        async def __call__(self, worker: str) -> str:
            return worker

    with pytest.raises(ValueError, match="takes worker=, the name of the one to ask"):
        OPERATORS.add("asking", Asking)


async def execute(source: str, default: ScriptedWorker, large: ScriptedWorker, **budget: Any) -> Execution:
    rates = {"prompt_dollars_per_million": 1000.0, "completion_dollars_per_million": 1000.0, "reserved_completion_tokens": 10}
    settings = SandboxSettings(budget=BudgetSettings(**budget))
    others = {"large": NamedWorker(large, settings.budget.model_copy(update=rates))}
    async with Sandbox(settings, default, others=others) as sandbox:
        body = "\n".join(f"        {line}" for line in source.splitlines())
        workflow = parse_workflow(f"class Workflow:\n    async def __call__(self, problem):\n{body}\n", NAMES)
        assert isinstance(workflow, Workflow)
        return await sandbox.execute(workflow, PROBLEM, seed=7)


async def test_the_worker_that_is_named_is_asked_and_each_has_samples_of_its_own():
    default, large = ScriptedWorker("first"), ScriptedWorker(ANSWER)
    done = await execute(
        "await self.generate(problem)\nawait self.generate(problem)\nreturn await self.generate(problem, worker='large')", default, large
    )
    assert done.answer == "def f(xs):\n    return sum(xs)" and [call.worker for call in done.trace] == ["default", "default", "large"]
    assert (default.seeds, large.seeds) == ([(7, 0), (7, 1)], [(7, 0)])


async def test_a_call_is_paid_from_the_budget_at_the_price_of_the_worker_that_it_asks():
    source = "return await self.generate(problem, worker={!r})"
    assert (await execute(source.format("default"), ScriptedWorker(), ScriptedWorker(), dollars=0.01)).outcome is Outcome.ANSWERED
    dear = await execute(source.format("large"), ScriptedWorker(), ScriptedWorker(), dollars=0.01)
    assert dear.outcome is Outcome.BUDGET_EXCEEDED and "0.01 dollars" in dear.error


async def test_a_name_that_is_made_while_it_runs_is_told_to_the_workflow():
    done = await execute("return await self.generate(problem, worker='lar' + 'g')", ScriptedWorker(), ScriptedWorker())
    assert done.outcome is Outcome.CRASHED and "did you mean 'large'" in done.error and done.worker_calls == 0


async def test_calls_are_counted_by_worker_where_there_are_several():
    two = run(Outcome.PASSED, passed=4, calls=3)
    trace = tuple(replace(call, worker="large" if call.index else "default") for call in two.execution.trace)

    async def metrics(one: Any) -> dict[str, float]:
        rollout = RolloutSettings(group_size=2)
        collector = Collector(
            ScriptedSampler([SINGLE_CALL]), ScriptedRunner(lambda *_: one), ScriptedRenderer(), rollout, RewardSettings(), seed=0
        )
        return group_metrics(await collector.collect([problem(0)], tag="t"))

    shown = await metrics(replace(two, execution=replace(two.execution, trace=trace)))
    assert (shown["worker/default/calls"], shown["worker/large/calls"]) == (1.0, 2.0)
    assert not [name for name in await metrics(two) if name.endswith("/calls") and name.startswith("worker/")]


def test_the_simulated_worker_plays_further_models_with_skills_of_their_own():
    player = Player(SimulatedWorkerSettings(models={"large": 4.0}), Book(()))
    generate = OPERATORS["generate"]

    def right(model: str) -> int:
        return sum(player.answer(model, messages(index), 0) == player.answer(model, messages(index), 1) for index in range(60))

    def messages(index: int) -> Sequence[Message]:
        query = nano_problem(0, "train", index).query
        text = generate.prompt.format(problem=query, entry_point="", instruction="", form="")
        return [{"role": "system", "content": generate.system}, {"role": "user", "content": text}]

    assert player.models == ("simulated-worker", "large", "simulated-teacher")
    assert right("large") > right("simulated-worker") + 5, "two samples of the abler model agree more often"
