"""A real vLLM engine under Ray, against transformers' own forward pass."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import psutil
import pytest
import pytest_asyncio
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from rollout.engine_handle import Engine, RayEngine
from rollout.fleet import Fleet
from rollout.nano_policy import make_nano_policy
from rollout.prompt import MetaPrompt
from rollout.records import Completion
from rollout.settings import ModelSettings, RolloutSettings
from trainer.cluster import start_ray, stop_ray
from trainer.settings import RunSettings
from workflow.settings import TaskSettings
from workflow.simulated.teacher import corpus
from workflow.tasks import load_tasks

pytestmark = pytest.mark.asyncio(loop_scope="module")

MODEL = ModelSettings(max_response_tokens=64)
TOLERANCE = 1e-3
Weights = list[tuple[str, torch.Tensor]]


class Rig:
    """A fleet of one engine, its policy and some prompts."""

    def __init__(self, folder: Path) -> None:
        problems = load_tasks(TaskSettings()).train[:16]
        self.folder = make_nano_policy(folder, corpus() + [problem.query for problem in problems], seed=3)
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        prompt = MetaPrompt(self.tokenizer, MODEL)
        self.prompts = [prompt.render(problem) for problem in problems]
        self.engines: list[RayEngine] = []
        self.fleet = Fleet(MODEL, RolloutSettings(), self.folder, device="cpu", engine=self._engine)

    def _engine(self) -> Engine:
        self.engines.append(RayEngine(self.folder, MODEL, RolloutSettings(), "cpu"))
        return self.engines[-1]

    def weights(self, seed: int) -> Weights:
        """The policy's weights with noise that is large enough to change what it says; seed 0: as they are."""
        generator = torch.Generator().manual_seed(seed)
        state = AutoModelForCausalLM.from_pretrained(self.folder).state_dict()
        scale = 0.1 if seed else 0.0
        return [
            (name, value + scale * torch.randn(value.shape, generator=generator))
            for name, value in state.items()
            if name != "lm_head.weight"
        ]

    def true_logprobs(self, weights: Weights, prompt: Sequence[int], completion: Completion, temperature: float = 1.0) -> torch.Tensor:
        model = AutoModelForCausalLM.from_pretrained(self.folder)
        model.load_state_dict(dict(weights), strict=False)
        ids = torch.tensor([[*prompt, *completion.token_ids]])
        with torch.no_grad():
            table = (model(ids).logits[0, len(prompt) - 1 : -1] / temperature).log_softmax(-1)
        return table.gather(1, torch.tensor(completion.token_ids)[:, None])[:, 0]

    def gap(self, weights: Weights, prompt: Sequence[int], completions: Sequence[Completion], temperature: float = 1.0) -> float:
        """Largest difference between the engine's log-probabilities and the true ones."""
        return max(
            float((self.true_logprobs(weights, prompt, one, temperature) - torch.tensor(one.logprobs)).abs().max()) for one in completions
        )


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def rig(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Rig]:
    made = Rig(tmp_path_factory.mktemp("policy") / "nano")
    temp = start_ray(RunSettings())
    try:
        await made.fleet.start()
        yield made
        pids = await made.engines[-1].ready()
        await made.fleet.close()
        assert len(pids) >= 2 and await gone(pids), "closing the fleet left processes of the engine behind"
    finally:
        stop_ray(temp)


async def gone(pids: Sequence[int], within_s: float = 15.0) -> bool:
    """True once none of the processes runs any more."""
    for _ in range(int(within_s / 0.1)):
        if not any(psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE for pid in pids):
            return True
        await asyncio.sleep(0.1)
    return False


async def test_logprobs_are_those_of_the_policy_before_and_after_new_weights(rig: Rig) -> None:
    prompt = rig.prompts[0]
    first = await rig.fleet.sample(prompt, 4, temperature=1.0, seed=1)
    assert rig.gap(rig.weights(0), prompt, first) < TOLERANCE
    for version, seed in ((1, 11), (2, 12)):
        weights = rig.weights(seed)
        await rig.fleet.publish(version, weights)
        completions = await rig.fleet.sample(prompt, 4, temperature=1.0, seed=1)
        assert {one.weights_version for one in completions} == {version}
        assert rig.gap(weights, prompt, completions) < TOLERANCE
        assert rig.gap(rig.weights(0), prompt, completions) > 0.1, "the noise is too small to tell old weights from new"


async def test_logprobs_at_another_temperature_are_of_the_distribution_that_was_sampled(rig: Rig) -> None:
    weights = rig.weights(13)
    await rig.fleet.publish(3, weights)
    completions = await rig.fleet.sample(rig.prompts[1], 4, temperature=0.7, seed=2)
    assert rig.gap(weights, rig.prompts[1], completions, temperature=0.7) < TOLERANCE


async def test_equal_seeds_sample_equal_completions_whatever_else_is_sampled(rig: Rig) -> None:
    alone = await rig.fleet.sample(rig.prompts[0], 3, temperature=1.0, seed=5)
    crowd = await asyncio.gather(*(rig.fleet.sample(prompt, 12, temperature=1.0, seed=5 + i) for i, prompt in enumerate(rig.prompts)))
    assert [one.token_ids for one in crowd[0][:3]] == [one.token_ids for one in alone]
    assert len({one.token_ids for one in crowd[0]}) == 12


async def test_temperature_zero_takes_the_likeliest_token_each_time(rig: Rig) -> None:
    weights = rig.weights(14)
    await rig.fleet.publish(4, weights)
    one, other = await rig.fleet.sample(rig.prompts[2], 2, temperature=0.0, seed=9)
    assert one == other
    model = AutoModelForCausalLM.from_pretrained(rig.folder)
    model.load_state_dict(dict(weights), strict=False)
    with torch.no_grad():
        logits = model(torch.tensor([[*rig.prompts[2], *one.token_ids]])).logits[0, len(rig.prompts[2]) - 1 : -1]
    assert tuple(logits.argmax(-1).tolist()) == one.token_ids


async def test_the_end_token_is_kept_in_the_ids_and_left_out_of_the_text(rig: Rig) -> None:
    await rig.fleet.publish(5, rig.weights(0))
    end = rig.tokenizer.eos_token_id
    completions = [one for prompt in rig.prompts for one in await rig.fleet.sample(prompt, 16, temperature=1.0, seed=6)]
    stopped = [one for one in completions if one.finish_reason == "stop"]
    assert stopped and all(one.token_ids[-1] == end and len(one.logprobs) == len(one.token_ids) for one in stopped)
    assert all(end not in one.token_ids[:-1] and "<|end|>" not in one.text for one in completions)
    cut = [one for one in completions if one.finish_reason == "length"]
    assert cut and all(len(one.token_ids) == MODEL.max_response_tokens for one in cut)


async def test_a_prompt_beyond_the_model_is_refused_and_the_engine_lives_on(rig: Rig) -> None:
    engine = rig.engines[-1]
    with pytest.raises(ValueError, match=r"^A prompt has \d+ tokens, more than the 192 of model.max_prompt_tokens"):
        await rig.fleet.sample(rig.prompts[0] * 20, 1, temperature=1.0, seed=0)
    assert len(await rig.fleet.sample(rig.prompts[0], 1, temperature=1.0, seed=0)) == 1
    assert rig.engines[-1] is engine


async def test_a_killed_engine_is_replaced_with_the_current_weights_and_leaves_no_process(rig: Rig) -> None:
    weights = rig.weights(15)
    await rig.fleet.publish(6, weights)
    pids = await rig.engines[-1].ready()
    os.kill(pids[0], signal.SIGKILL)
    completions = await rig.fleet.sample(rig.prompts[0], 4, temperature=1.0, seed=1)
    assert {one.weights_version for one in completions} == {6}
    assert rig.gap(weights, rig.prompts[0], completions) < TOLERANCE
    assert await gone(pids), "the killed engine left processes behind"
