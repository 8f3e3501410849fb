"""The engines of a run are those that ``rollout.engine`` names."""

from pathlib import Path

import pytest

from rollout.nano.policy import make_nano_policy
from rollout.settings import RolloutSettings
from tests.demo import DEMO
from trainer.system import System


@pytest.mark.timeout(300)
async def test_a_run_makes_its_engines_by_the_door(tmp_path: Path) -> None:
    policy = make_nano_policy(tmp_path / "policy", ["a b c"] * 8, seed=0)
    settings = DEMO.model_copy(update={"rollout": RolloutSettings(engine="tests.scripted_engine:counting_engine")})
    async with System(settings, policy=policy, learner_start=None, log_dir=tmp_path) as system:
        fleet = await system.fleet()
        (done,) = await fleet.sample([1, 2], 1, temperature=1.0, seed=0)
    assert done.token_ids == (5, 5, 5)
