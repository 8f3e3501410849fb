"""``python -m launch.worker [name=value ...]``: what ``worker.provider`` starts with a run, by itself, until Ctrl-C.

The settings are those of ``launch.train``: without any it is the simulated worker, at any free port; ``simulated.port=8099`` chooses
one, and ``simulated.faults.hang=0.1 tasks=humaneval`` makes it play HumanEval and hang now and then.
"""

import argparse
import asyncio
import contextlib
import sys
from pathlib import Path

from conf.schema import Config
from launch.compose import compose_settings
from launch.shell import one_sentence_errors
from workflow.worker.providers import Surroundings, start_providers
from workflow.worker.redact import redact_url


async def serve(settings: Config) -> None:
    """Starts the provider and waits for ever; its log lies in the working directory."""
    run = Surroundings(Path.cwd(), settings.tasks, settings.simulated, imports=settings.trainer.imports)
    async with start_providers({"worker": settings.worker}, run) as ready:
        worker = ready["worker"]
        print(f"The model {worker.model} is served at {redact_url(worker.base_url or 'no URL')}", flush=True)
        await asyncio.Event().wait()


@one_sentence_errors
def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="python -m launch.worker", description="Starts what worker.provider starts with a run.")
    parser.add_argument("overrides", nargs="*", help="settings as of launch.train, for example simulated.port=8099 tasks=humaneval")
    settings = compose_settings(parser.parse_args().overrides)
    if settings.worker.provider == "endpoint":
        raise ValueError("worker.provider=endpoint starts nothing: it is a server that runs already.")
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve(settings))
    return 0


if __name__ == "__main__":
    sys.exit(main())
