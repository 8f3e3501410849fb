"""Another rollout engine than vLLM: one file, named by a setting, under the half of an engine that is the same for all."""

import asyncio
from pathlib import Path
from typing import Any, cast

import pytest

from conf.schema import load
from rollout.engines.interface import EngineSpec
from rollout.fleet.fleet import Fleet
from rollout.nano.policy import make_tokenizer
from rollout.settings import ModelSettings, RolloutSettings
from rollout.weights.buckets import Bucket, TensorSum, WeightsMismatchError, digest
from tests.scripted_engine import CountingBackend, EngineHere, counting_engine
from tests.test_rollout_fleet import ScriptedWeights

TENSOR = TensorSum("t", "float32", (2,), 7)


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("policy")
    make_tokenizer(["a b c"] * 8).save_pretrained(folder)
    return folder


async def engine(policy: Path, **rollout: Any) -> tuple[EngineHere, CountingBackend]:
    made = counting_engine(EngineSpec(policy, ModelSettings(), RolloutSettings(**rollout), "cpu"))
    await made.ready()
    return made, cast(CountingBackend, made._backend)


async def update(made: EngineHere, version: int) -> int:
    await made.start_update(version)
    await made.load_bucket(Bucket((TENSOR,), None))
    return await made.finish_update(version)


@pytest.mark.parametrize("name", ["tests_counting", "tests.scripted_engine:counting_engine"])
async def test_a_fleet_samples_and_publishes_by_the_engine_that_the_setting_names(policy: Path, name: str):
    fleet = Fleet(ModelSettings(), RolloutSettings(engine=name, engines=2), policy, device="cpu")
    await fleet.start()
    published = await fleet.publish(3, cast(Any, ScriptedWeights(1)))
    done = await fleet.sample([1, 2], 2, temperature=1.0, seed=0)
    await fleet.close()
    assert not published.replaced
    assert [one.spans for one in done] == [((3, 3),), ((3, 3),)] and done[0].cached_prompt_tokens == 1


async def test_a_completion_that_an_update_stops_goes_on_from_its_tokens_with_the_new_weights(policy: Path):
    made, backend = await engine(policy, in_flight="continue")
    backend.stop_at = 20
    sampling = asyncio.create_task(made.sample([1, 2], 1, 1.0, seed=0))
    for _ in range(8):
        await asyncio.sleep(0)
    backend.stop_at = 4  # what is left after the update
    assert await update(made, 1) == digest([TENSOR])
    (done,) = await sampling
    (old, before), (new, after) = done.spans
    assert (old, new, after) == (0, 1, 4) and before > 0 and done.weights_version == 0
    assert backend.calls[-1] == f"generate 1 of {[1, 2] + [5] * before}"


async def test_an_update_waits_for_completions_unless_it_may_stop_them(policy: Path):
    made, backend = await engine(policy)
    sampling = asyncio.create_task(made.sample([1, 2], 1, 1.0, seed=0))
    await asyncio.sleep(0)
    await update(made, 1)
    (done,) = await sampling
    assert done.spans == ((0, 3),)
    assert backend.calls == ["generate 1 of [1, 2]", "stop", "begin_update", "end_update", "resume"]


async def test_an_engine_whose_update_broke_off_refuses_requests(policy: Path):
    made, _ = await engine(policy)
    await made.start_update(2)
    with pytest.raises(ConnectionError):
        await made.load_bucket(Bucket((TensorSum("torn", "float32", (2,), 7),), None))
    with pytest.raises(WeightsMismatchError, match="The update to weights version 2 did not end"):
        await made.sample([1], 1, 1.0, seed=0)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("vlm", "rollout.engine=vlm is unknown; the nearest is vllm"),
        ("tests.scripted_engine:no_such", r"rollout.engine=tests.scripted_engine:no_such cannot be imported"),
    ],
)
def test_an_engine_that_there_is_not_is_refused_before_anything_starts(name: str, said: str):
    with pytest.raises(ValueError, match=said):
        load({"rollout": {"engine": name}})
