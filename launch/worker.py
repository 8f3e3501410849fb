"""``python -m launch.worker``: serves the simulated worker (and teacher) by hand, for example behind ``worker.base_url``."""

import argparse
import sys

from workflow.nano.simulated.server import serve
from workflow.settings import FaultSettings, LatencySettings, SimulatedWorkerSettings, TaskSettings
from workflow.tasks import TASK_SETS


def build_parser() -> argparse.ArgumentParser:
    """The command's options; each fault is a share of the requests, from 0 to 1."""
    parser = argparse.ArgumentParser(
        prog="python -m launch.worker",
        description="OpenAI-compatible server with the models simulated-worker and simulated-teacher.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8099, help="0: any free port")
    parser.add_argument("--tasks", default="nano", help=f"task set that the worker knows: {', '.join(TASK_SETS)}, or module:name")
    parser.add_argument("--path", default=None, help="file of the task set")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--latency-mean-s", type=float, default=0.0)
    parser.add_argument("--latency-sigma", type=float, default=0.6)
    for fault in FaultSettings.model_fields:
        parser.add_argument(f"--{fault.replace('_', '-')}", type=float, default=0.0, help="share of requests")
    return parser


def main(arguments: list[str] | None = None) -> None:
    """Serves until Ctrl-C; exits with one sentence where an option is wrong."""
    options = build_parser().parse_args(arguments)
    try:
        settings = SimulatedWorkerSettings(
            seed=options.seed,
            port=options.port,
            latency=LatencySettings(mean_s=options.latency_mean_s, sigma=options.latency_sigma),
            faults=FaultSettings(**{name: getattr(options, name) for name in FaultSettings.model_fields}),
        )
        tasks = TaskSettings(name=options.tasks, path=options.path)
        serve(settings, tasks, host=options.host, ready=lambda url: print(f"Simulated worker ({options.tasks}) at {url}", flush=True))
    except KeyboardInterrupt:
        print("Stopped.", flush=True)
    except ValueError as error:
        details = getattr(error, "errors", None)
        sys.exit("; ".join(f"--{'-'.join(map(str, item['loc']))}: {item['msg']}" for item in details()) if details else str(error))


if __name__ == "__main__":
    main()
