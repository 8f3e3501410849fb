"""New weights over a link to two real engines: the way that they take between GPUs, here over gloo."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from rollout.settings import RolloutSettings
from rollout.weights.buckets import digest, sums
from rollout.weights.source import HeldWeights
from tests.slow.engine_rig import MODEL, TOLERANCE, Rig, Weights, rig_up

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(1200)]

SETTINGS = RolloutSettings(engines=2, publish_bucket_mib=0.5, weights_via="link")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def rig(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Rig]:
    async with rig_up(Rig(tmp_path_factory.mktemp("policy") / "nano", SETTINGS, model=MODEL)) as made:
        yield made


async def assert_both_hold(rig: Rig, version: int, weights: Weights) -> None:
    await rig.mended()
    assert {await engine.digest() for engine in rig.alive()} == {digest(sums(weights))} and len(rig.alive()) == 2
    for engine in range(2):
        completions = await rig.fleet.sample(rig.prompts[0], 2, temperature=1.0, seed=1, sticky=engine)
        assert {one.weights_version for one in completions} == {version}
        assert rig.gap(weights, rig.prompts[0], completions) < TOLERANCE


async def test_weights_over_a_link_reach_both_engines_time_after_time(rig: Rig) -> None:
    weights = rig.weights(31)
    source = HeldWeights(weights)
    for version in (1, 2, 3):
        for _, tensor in weights:
            tensor *= 1.1
        published = await rig.fleet.publish(version, source)
        assert published.buckets > 5 and len(published.engine_s) == 2 and not published.replaced
        await assert_both_hold(rig, version, weights)


async def test_an_engine_killed_between_updates_does_not_keep_the_other_from_the_next(rig: Rig) -> None:
    weights = rig.weights(34)
    rig.alive()[0].kill()
    published = await rig.fleet.publish(4, weights)
    assert len(published.engine_s) == 1 and len(published.replaced) == 1
    await assert_both_hold(rig, 4, weights)


async def test_an_engine_killed_in_the_middle_breaks_the_link_and_all_get_the_weights_anew(rig: Rig) -> None:
    weights = rig.weights(35)
    broken = rig.alive()[-1]
    broken.buckets, broken.die_at = 0, 2
    published = await rig.fleet.publish(5, weights)
    assert 1 <= len(published.replaced) <= 2
    await assert_both_hold(rig, 5, weights)
