"""A real vLLM engine under Ray, against transformers' own forward pass."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
import torch
from transformers import AutoModelForCausalLM

from rollout.settings import RolloutSettings
from tests.slow.engine_rig import MODEL, TOLERANCE, Rig, gone, rig_up

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def rig(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Rig]:
    async with rig_up(Rig(tmp_path_factory.mktemp("policy") / "nano", RolloutSettings())) as made:
        yield made


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


async def test_an_engine_that_comes_up_says_what_it_does_at_once(rig: Rig) -> None:
    said: list[str] = []
    engine = rig.engines[-1]
    engine._say = said.append
    await engine.ready()
    engine._say = None
    (line,) = said
    assert "256 sequences and 8,192 tokens a step" in line and line.endswith(" tokens, float32.") and " 0 tokens" not in line


async def test_a_killed_engine_is_replaced_with_the_current_weights_and_leaves_no_process(rig: Rig) -> None:
    weights = rig.weights(15)
    await rig.fleet.publish(6, weights)
    pids = await rig.engines[-1].ready()
    os.kill(pids[0], signal.SIGKILL)
    completions = await rig.fleet.sample(rig.prompts[0], 4, temperature=1.0, seed=1)
    assert {one.weights_version for one in completions} == {6}
    assert rig.gap(weights, rig.prompts[0], completions) < TOLERANCE
    assert await gone(pids), "the killed engine left processes behind"
