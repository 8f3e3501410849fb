"""The rollout engine with nothing beside it: the ceiling for sampling, on a job file of ``benchmarks.step``.

    python -m benchmarks.engine_alone JOB.json

Samples the prompts of each step at once, as a step does, with no learner, no sandbox and no worker running. Prints one JSON line.
"""

import asyncio
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

from launch.compose import compose_settings
from rollout.fleet.fleet import Fleet
from trainer.cluster.session import device_of, start_ray, stop_ray
from trainer.run.terminal import quiet_libraries


async def measure(job: dict[str, Any]) -> dict[str, float]:
    """Median seconds and tokens of sampling one step's groups, warm-up rounds left out."""
    settings = compose_settings(job["overrides"])
    temp = await asyncio.to_thread(start_ray, settings)
    fleet = Fleet(settings.model, settings.rollout, Path(job["policy"]), device=device_of(settings, learner=False))
    seconds: list[float] = []
    tokens: list[int] = []
    try:
        await fleet.start()
        for number, prompts in enumerate(job["prompt_ids"]):
            start = time.monotonic()
            asked = [
                fleet.sample(ids, job["group_size"], temperature=job["temperature"], seed=number * len(prompts) + index)
                for index, ids in enumerate(prompts)
            ]
            groups = await asyncio.gather(*asked)
            seconds.append(time.monotonic() - start)
            tokens.append(sum(len(one.token_ids) for group in groups for one in group))
    finally:
        await fleet.close()
        stop_ray(temp)
    skip = job["warmup"]
    return {"sample_s": statistics.median(seconds[skip:]), "tokens": statistics.median(tokens[skip:]), "steps": len(seconds[skip:])}


def main() -> int:
    """Entry point."""
    job = json.loads(Path(sys.argv[1]).read_text())
    quiet_libraries()
    print(json.dumps(asyncio.run(measure(job))), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
