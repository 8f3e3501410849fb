"""New weights on two real engines: what arrives, what goes wrong, what completions in flight see of it."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
import torch

from rollout.records import Completion
from rollout.settings import RolloutSettings
from rollout.weights.buckets import digest, sums
from tests.demo import demo_model
from tests.slow.engine_rig import TOLERANCE, Rig, Weights, gone, rig_up

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(600)]

SETTINGS = RolloutSettings(engines=2, publish_bucket_mib=0.5, in_flight="continue", rounds=2)
MODEL = demo_model(max_response_tokens=160)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def rig(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Rig]:
    async with rig_up(Rig(tmp_path_factory.mktemp("policy") / "nano", SETTINGS, model=MODEL)) as made:
        yield made


async def on_each(rig: Rig, n: int = 2, seed: int = 1) -> list[list[Completion]]:
    """Completions of the first prompt by either engine."""
    return [await rig.fleet.sample(rig.prompts[0], n, temperature=1.0, seed=seed, sticky=engine) for engine in range(2)]


async def assert_both_hold(rig: Rig, version: int, weights: Weights) -> None:
    """Both engines have the version and the checksum, and sample from these weights."""
    await rig.mended()
    assert [health.version for health in rig.fleet.health()] == [version] * 2
    assert {await engine.digest() for engine in rig.alive()} == {digest(sums(weights))}
    for completions in await on_each(rig):
        assert {one.weights_version for one in completions} == {version}
        assert rig.gap(weights, rig.prompts[0], completions) < TOLERANCE


async def test_after_an_update_both_engines_hold_its_version_and_its_checksum(rig: Rig) -> None:
    for version, seed in ((1, 21), (2, 22)):
        weights = rig.weights(seed)
        published = await rig.fleet.publish(version, weights)
        assert published.bytes == sum(tensor.nbytes for _, tensor in weights) and published.buckets > 5
        assert len(published.engine_s) == 2 and not published.replaced
        await assert_both_hold(rig, version, weights)


async def test_an_update_of_one_element_by_the_least_bit_is_another_checksum_and_arrives(rig: Rig) -> None:
    weights = rig.weights(22)
    before = digest(sums(weights))
    weights[5][1].view(torch.int32).view(-1)[7] ^= 1
    await rig.fleet.publish(3, weights)
    assert digest(sums(weights)) != before
    await assert_both_hold(rig, 3, weights)


async def test_completions_in_flight_go_on_under_the_new_weights_and_say_which_tokens_are_whose(rig: Rig) -> None:
    weights = {4: rig.weights(41)}
    await rig.fleet.publish(4, weights[4])
    asked = [asyncio.create_task(rig.fleet.sample(prompt, 6, temperature=1.0, seed=i)) for i, prompt in enumerate(rig.prompts[:8])]
    for version in range(5, 9):  # several, so that one of them meets completions half-way on a slow machine and on a fast one
        await asyncio.sleep(0.25)
        if not all(task.done() for task in asked):
            weights[version] = rig.weights(37 + version)
            await rig.fleet.publish(version, weights[version])
    groups = await asyncio.gather(*asked)
    assert len({one.token_ids for group in groups for one in group}) == 48, "siblings that go on must not become equal"
    mixed = [(prompt, one) for prompt, group in zip(rig.prompts, groups, strict=False) for one in group if len(one.spans) > 1]
    assert len(mixed) >= 4, "no update met completions half-way"
    told_apart, checked = 0, mixed[:12]
    for prompt, one in checked:
        versions = [version for version, _ in one.spans]
        assert versions == sorted(set(versions)) and one.weights_version == versions[0]
        assert sum(tokens for _, tokens in one.spans) == len(one.token_ids) == len(one.logprobs) <= MODEL.max_response_tokens
        assert (one.finish_reason == "length") == (len(one.token_ids) == MODEL.max_response_tokens)
        values, start = torch.tensor(one.logprobs), 0
        under = {version: rig.true_logprobs(weights[version], prompt, one) for version in versions}
        for version, tokens in one.spans:
            span = slice(start, start + tokens)
            assert (values[span] - under[version][span]).abs().max() < TOLERANCE
            other = versions[0] if version != versions[0] else versions[1]
            told_apart += bool((values[span] - under[other][span]).abs().max() > 0.1)
            start += tokens
    assert told_apart > len(checked), "the versions of the weights are too alike to tell whose tokens are whose"


async def test_the_second_round_of_an_episode_costs_its_new_tokens_alone(rig: Rig) -> None:
    opening = (rig.prompts[1] * 20)[:150]
    (first,) = await rig.fleet.sample(opening, 1, temperature=1.0, seed=3, sticky=1)
    conversation = (*opening, *first.token_ids, *rig.prompts[2])
    (again,) = await rig.fleet.sample(conversation, 1, temperature=1.0, seed=4, sticky=1)
    known = len(opening) + len(first.token_ids)
    assert again.cached_prompt_tokens == (known - 1) // 128 * 128, "vLLM keeps whole blocks of 128 tokens on CPU"
    (elsewhere,) = await rig.fleet.sample(conversation, 1, temperature=1.0, seed=4, sticky=0)
    assert elsewhere.cached_prompt_tokens == 0 and elsewhere.token_ids == again.token_ids
    assert rig.fleet.health()[1].cached_share > 0


async def test_a_corrupted_bucket_is_seen_and_the_engine_replaced(rig: Rig) -> None:
    weights = rig.weights(25)
    broken = rig.alive()[-1]
    pids = await broken.ready()
    broken.buckets, broken.corrupt_at = 0, 3
    published = await rig.fleet.publish(10, weights)
    assert len(published.replaced) == 1 and len(published.engine_s) == 1
    assert "arrived with checksum" in published.replaced[0] and "and was sent with" in published.replaced[0]
    await assert_both_hold(rig, 10, weights)
    assert await gone(pids)


async def test_an_engine_killed_in_the_middle_of_an_update_is_replaced_and_gets_the_right_weights(rig: Rig) -> None:
    weights = rig.weights(26)
    broken = rig.alive()[-1]
    broken.buckets, broken.die_at = 0, 2
    asked = asyncio.create_task(on_each(rig, n=4))
    published = await rig.fleet.publish(11, weights)
    assert len(published.replaced) == 1
    await asked
    await assert_both_hold(rig, 11, weights)
    assert [health.replaced for health in rig.fleet.health()] == [0, 2]
