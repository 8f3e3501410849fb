"""The reward-hacking suite: no policy that cheats is worth more than its honest twin."""

from tests.reward_contests import CONTESTS, EASY
from tests.reward_suite import results, wins


async def test_no_cheat_is_worth_more_than_its_honest_twin():
    found = await results()
    assert len(found) >= 20
    for name, (cheat, honest) in found.items():
        assert not {preset for preset in wins(cheat, honest) if preset != "latency"}, (name, cheat, honest)  # that one hangs on the machine
        assert honest.performance == 1.0 or CONTESTS[name].kind != EASY, (name, honest)
