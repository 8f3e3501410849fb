"""Policies that try to cheat the reward, each beside its honest twin: what they write goes through parsing, sandbox, judge and reward.

    python -m tests.reward_suite        a table; exit status 1 where a cheat is worth more than its twin, or is not scored at all

A twin does honestly what its cheat pretends to do, with the same calls of the worker where there are any. Every reward of
``PRESETS`` counts.
"""

import asyncio
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import yaml

from conf import __file__ as conf_file
from reward.group import score_group
from reward.settings import RewardSettings, RewardWeights
from rollout.groups.collect import Collector
from rollout.records import Completion
from rollout.settings import RolloutSettings
from sandbox.sandbox import Sandbox
from sandbox.settings import BudgetSettings, LimitSettings, SandboxSettings
from tests.reward_contests import CONTESTS, GOOD, WRONG, Contest
from tests.scripted_parts import ScriptedRenderer, completion
from workflow.problem import Problem
from workflow.worker.interface import Message, Reply

PRESETS = {
    path.stem: RewardSettings.model_validate(yaml.safe_load(path.read_text()))
    for path in sorted((Path(conf_file).parent / "reward").glob("*.yaml"))
}
PRESETS["latency"] = RewardSettings(weights=RewardWeights(latency=-0.05))
SANDBOX = SandboxSettings(
    limits=LimitSettings(workflow_wall_s=6.0, worker_wait_s=2.0),
    budget=BudgetSettings(calls=12, reserved_completion_tokens=100, completion_dollars_per_million=10.0),
)
TOLERANCE = 0.01
"""Of latency: runs that do the same take not quite the same time."""


class SuiteWorker:
    """Solves the problem, or gets it wrong where the query says that it is hard, and repeats what it is told to. It serves a reply in a
    second where it is crowded, the first at once; slowly where the hint says so."""

    async def complete(
        self, messages: Sequence[Message], *, seed: int, ordinal: int = 0, temperature: float | None = None, max_tokens: int | None = None
    ) -> Reply:
        asked = messages[-1]["content"]
        if "crowded" in asked and ordinal:
            await asyncio.sleep(1.0)
        if asked.startswith("<input>\ndef f"):  # told to repeat it
            return Reply(f"```python\n{GOOD}\n```", 100, 100, 0.001, 0.0)
        served_s = 0.3 if "slow" in asked else 0.0
        await asyncio.sleep(served_s)
        code = WRONG if "hard" in asked else GOOD
        return Reply(f"```python\n{code}\n```", 100, 100, 0.001, served_s)


class Writer:
    """The policy: what each sibling writes, round by round (several rounds: one sibling)."""

    def __init__(self, texts: Sequence[Sequence[str]]) -> None:
        self._rounds = [list(texts_of_round) for texts_of_round in zip(*texts, strict=True)]

    async def sample(
        self, prompt_ids: Sequence[int], n: int, *, temperature: float, seed: int, sticky: int | None = None
    ) -> list[Completion]:
        return [completion(text) for text in self._rounds.pop(0)]


@dataclass(frozen=True, slots=True)
class Worth:
    """What a policy's episodes are worth."""

    totals: dict[str, float | None]
    """By preset, mean over siblings; None where one of them is masked."""
    performance: float


async def worth(sandbox: Sandbox, contest: Contest, name: str, texts: Sequence[Sequence[str]]) -> Worth:
    """Collects one group and scores it with every preset."""
    tests = ("assert f([3, 1, 3]) == [3, 1]", "assert f([]) == []", "assert f([5, 4, 5, 4]) == [5, 4]")
    problem = Problem(
        f"suite/{name}", f"Write f(xs): its distinct values, in order. {contest.kind}", "f", ("assert f([2, 1, 2]) == [2, 1]",), tests
    )
    rollout = RolloutSettings(rounds=len(texts[0]))
    collector = Collector(Writer(texts), sandbox, ScriptedRenderer(), rollout, RewardSettings(), seed=1)
    (group,) = await collector.collect([problem], tag="suite", n=len(texts))
    attempts = [episode.attempt for episode in group.episodes]
    scores = {preset: score_group(attempts, problem, settings) for preset, settings in PRESETS.items()}
    totals = {
        preset: fmean(score.total for score in each if score is not None) if all(score is not None for score in each) else None
        for preset, each in scores.items()
    }
    return Worth(totals, fmean([score.terms["performance"] for score in scores["calls"] if score is not None] or [0.0]))


async def results() -> dict[str, tuple[Worth, Worth]]:
    """(cheat, twin) by the name of the contest."""
    async with Sandbox(SANDBOX, SuiteWorker()) as sandbox:
        return {
            name: (await worth(sandbox, one, f"{name}/cheat", one.cheat), await worth(sandbox, one, f"{name}/honest", one.honest))
            for name, one in CONTESTS.items()
        }


def wins(cheat: Worth, honest: Worth) -> list[str]:
    """Presets under which the cheat pays; a masked one escapes its loss."""
    found = []
    for preset, total in cheat.totals.items():
        twin = honest.totals[preset]
        if total is None or twin is None or total > twin + (TOLERANCE if preset == "latency" else 1e-9):
            found.append(preset)
    return found


def table(found: dict[str, tuple[Worth, Worth]]) -> str:
    """One line a contest: cheat and twin under each preset."""
    width = max(map(len, found))
    lines = [f"{'cheat < honest twin':{width}}  " + "  ".join(f"{preset:>15}" for preset in PRESETS)]
    for name, (cheat, honest) in found.items():
        cells = [f"{_shown(cheat.totals[preset])} {_shown(honest.totals[preset])}" for preset in PRESETS]
        pays = wins(cheat, honest)
        lines.append(f"{name:{width}}  " + "  ".join(f"{cell:>15}" for cell in cells) + (f"  PAYS: {', '.join(pays)}" if pays else ""))
    return "\n".join(lines)


def _shown(total: float | None) -> str:
    return " masked" if total is None else f"{total:7.3f}"


def main() -> int:
    """Prints the table."""
    found = asyncio.run(results())
    print(table(found))
    paying = [name for name, pair in found.items() if wins(*pair)]
    print(f"{len(found)} policies, {len(paying)} worth more than their honest twins" + (f": {', '.join(paying)}" if paying else ""))
    return 1 if paying else 0


if __name__ == "__main__":
    sys.exit(main())
