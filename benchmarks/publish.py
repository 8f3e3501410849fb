"""Seconds and bytes of an update of the weights for 1 to 4 engines, beside a plain copy of the same bytes in memory. Prints one JSON line.

    python -m benchmarks.publish [--mib 200] [--engines 1 2 4] [--bucket-mib 32] [--repeats 3]

A process in the learner's place holds a Qwen3 of random weights and sends it as the learner does. Everything that an update does is
timed: gathering, checksums at both ends, loading, packing for the CPU, reading back. The copy is ``torch.clone`` of every tensor in the
sender's process into memory of its own, taken before and after each update; ratios are medians over the repeats. ``growth_mib`` is how
far the private memory of the driver, the sender and the hungriest engine process rose during an update.
"""

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psutil
import ray
import torch
from transformers import AutoTokenizer, Qwen3Config, Qwen3ForCausalLM

from benchmarks.neighbours import Neighbours
from rollout.engines.interface import Engine, EngineSpec, make_engine
from rollout.fleet.publishing import Update
from rollout.nano.policy import make_nano_policy
from rollout.settings import ModelSettings, RolloutSettings
from rollout.weights.buckets import Bucket
from rollout.weights.sender import WeightsSender
from trainer.cluster.session import start_ray, stop_ray
from trainer.learner.weights import LearnerWeights
from trainer.run.terminal import quiet_libraries
from trainer.settings import RunSettings
from workflow.nano.simulated.teacher import corpus

WIDTH = 1024
MODEL = ModelSettings(dtype="float32", max_prompt_tokens=64, max_response_tokens=8)
ENGINE_ARGS = {"kv_cache_memory_bytes": 64 * 2**20, "max_num_seqs": 4, "max_num_batched_tokens": 1024}


class Sender:
    """In the learner's place: weights, a bucket at a time."""

    def __init__(self, folder: Path) -> None:
        torch.set_num_threads(1)
        model = Qwen3ForCausalLM.from_pretrained(folder)
        self._weights = [(name, one.detach().clone()) for name, one in model.named_parameters() if name != "lm_head.weight"]
        self._outgoing = WeightsSender()

    def next_bucket(self, max_bytes: int, first: bool) -> Bucket | None:
        """As ``LearnerWorker.next_bucket``."""
        if first:
            self._outgoing.begin(self._weights, max_bytes)
        return self._outgoing.next_bucket(linked=False)

    def clone_s(self) -> float:
        """Seconds to copy every tensor once into memory of its own."""
        start = time.perf_counter()
        copy = [tensor.clone() for _, tensor in self._weights]
        seconds = time.perf_counter() - start
        del copy
        return seconds

    def mib(self) -> float:
        """Size of the weights."""
        return sum(tensor.nbytes for _, tensor in self._weights) / 2**20

    def change(self) -> None:
        """Other weights than before."""
        for _, tensor in self._weights:
            tensor.mul_(1.001)

    def pid(self) -> int:
        """This process."""
        return psutil.Process().pid


class Growth:
    """How far the private memory of some processes rises during updates; shared pages (Ray's store, mapped buckets) left out."""

    def __init__(self, pids: dict[str, list[int]]) -> None:
        self._pids = pids
        self._before: dict[int, float] = {}
        self._most = {pid: 0.0 for own in pids.values() for pid in own}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "Growth":
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(0.01):
            for pid, before in self._before.items():
                self._most[pid] = max(self._most[pid], private_mib(pid) - before)

    def begin(self) -> None:
        """An update begins."""
        self._before = {pid: private_mib(pid) for pid in self._most}

    def end(self) -> None:
        """It is over: what happens until the next one does not count."""
        self._before = {}

    def mib(self) -> dict[str, float]:
        """By name, of the process that grew most."""
        return {name: round(max(self._most[pid] for pid in own), 1) for name, own in self._pids.items()}


def private_mib(pid: int) -> float:
    """Resident memory of a process that is its own."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("RssAnon:")), 0.0)


def make_policy(folder: Path, mib: float) -> Path:
    """A Qwen3 of about ``mib`` MiB of float32 weights, with nano's tokenizer."""
    make_nano_policy(folder, corpus(), seed=0)
    words = len(AutoTokenizer.from_pretrained(folder))
    shape: dict[str, Any] = {
        "hidden_size": WIDTH,
        "intermediate_size": 3 * WIDTH,
        "num_attention_heads": 16,
        "num_key_value_heads": 8,
        "head_dim": 64,
    }
    layer_bytes = 4 * (WIDTH * WIDTH * 3 + 3 * WIDTH * 3 * WIDTH)
    layers = max(1, round((mib * 2**20 - 4 * words * WIDTH) / layer_bytes))
    config = Qwen3Config(vocab_size=words, num_hidden_layers=layers, tie_word_embeddings=True, dtype="float32", **shape)
    Qwen3ForCausalLM(config).float().save_pretrained(folder)
    return folder


@asynccontextmanager
async def _nothing_changes() -> AsyncIterator[int]:
    yield 0


async def measure_engines(
    options: argparse.Namespace, sender: Any, source: LearnerWeights, engines: list[Engine], growth: Growth
) -> dict[str, float]:
    """Updates of these engines, the first one to warm up."""
    runs: list[tuple[float, float]] = []
    for number in range(options.repeats + 1):
        await sender.change.remote()
        update = Update(number, source, max_bytes=int(options.bucket_mib * 2**20), keep=False, timeout_s=300.0)
        before_s, start = await sender.clone_s.remote(), time.perf_counter()
        if number:
            growth.begin()
        results = await update.send(engines)
        seconds = time.perf_counter() - start
        growth.end()
        if failed := [result for result in results if isinstance(result, str)]:
            raise RuntimeError(f"An engine failed: {failed[0]}")
        runs.append((seconds, (before_s + await sender.clone_s.remote()) / 2))
    ratio = statistics.median(seconds / clone_s for seconds, clone_s in runs[1:])
    return {
        "seconds": round(statistics.median(seconds for seconds, _ in runs[1:]), 3),
        "clone_s": round(statistics.median(clone_s for _, clone_s in runs[1:]), 3),
        "over_clone": round(ratio, 2),
        "over_clone_per_engine": round(ratio / len(engines), 2),
    }


async def measure(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """The figures of the JSON line."""
    rollout = RolloutSettings(engines=max(options.engines), engine_args=ENGINE_ARGS)
    sender: Any = ray.remote(Sender).options(num_cpus=0).remote(folder)
    engines = [make_engine(EngineSpec(folder, MODEL, rollout, "cpu")) for _ in range(rollout.engines)]
    try:
        pids = await asyncio.gather(*(engine.ready() for engine in engines))
        await sender.clone_s.remote()
        watched = {"driver": [psutil.Process().pid], "sender": [await sender.pid.remote()], "engine": [pid for own in pids for pid in own]}
        source = LearnerWeights(_nothing_changes, lambda size, first, linked: sender.next_bucket.remote(size, first), 0)
        with Growth(watched) as growth:
            found = {str(count): await measure_engines(options, sender, source, engines[:count], growth) for count in options.engines}
        mib = await sender.mib.remote()
        return {"mib": round(mib, 1), **found, "growth_mib": growth.mib()}
    finally:
        await asyncio.gather(*(engine.close() for engine in engines), return_exceptions=True)
        for engine in engines:
            engine.kill()


def main() -> int:
    """Entry point."""
    options = argparse.ArgumentParser(prog="python -m benchmarks.publish", description="An update of the weights against a plain copy.")
    options.add_argument("--mib", type=float, default=200.0, help="size of the weights (default 200)")
    options.add_argument("--engines", type=int, nargs="+", default=[1, 2, 4], help="numbers of engines (default 1 2 4)")
    options.add_argument("--bucket-mib", type=float, default=32.0, help="rollout.publish_bucket_mib (default 32)")
    options.add_argument("--repeats", type=int, default=3, help="updates measured for each number (default 3)")
    chosen = options.parse_args()
    quiet_libraries()
    with tempfile.TemporaryDirectory() as folder, Neighbours() as neighbours:
        policy = make_policy(Path(folder) / "policy", chosen.mib)
        temp = start_ray(RunSettings())
        try:
            found = asyncio.run(measure(chosen, policy))
        finally:
            stop_ray(temp)
    line = {"benchmark": "publish", "bucket_mib": chosen.bucket_mib, **found}
    print(json.dumps(line | {"neighbour_cores": round(neighbours.cores, 2)}), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
