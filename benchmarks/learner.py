"""Tokens a second and model FLOPs utilisation of the learner's engines, beside a bare torch training step. Prints one JSON line.

    python -m benchmarks.learner --shape 30m                    on CPU, all sides alive and interleaved step by step
    python -m benchmarks.learner --shape 1.5b --device cuda     on a GPU, one side after the other

A step is one optimizer step of supervised fine-tuning on random rows of equal lengths, through ``trainer.learner.handle.Learner``: Ray,
batches, micro-batches, gradient clipping and AdamW included. The bare step is a transformers model with torch's attention, fused
AdamW and nothing else, on the same device, in the same types (float32; on a GPU bfloat16 over float32 weights), with the same rows.
With ``--siblings N`` N neighbours share their prompt, which the engines compute once and the bare step each time. Utilisation
counts what the engine computes (6 operations a weight and token, causal attention; no recomputation) against the device's peak.
"""

import argparse
import asyncio
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import ray

from benchmarks.model_shapes import PEAK_TFLOPS, SHAPES, Shape, make_policy
from benchmarks.neighbours import Neighbours
from trainer.cluster.session import start_ray, stop_ray
from trainer.engines.token_rows import TokenRows
from trainer.learner.handle import Learner
from trainer.settings import ClusterSettings, LearnerSettings, OptimizerSettings, RunSettings

SIDES = ("bare", "fsdp2", "zero1", "zero2", "zero3")
OPTIMIZER = OptimizerSettings(lr=1e-5, warmup_steps=0)


def parser() -> argparse.ArgumentParser:
    """Options of the command."""
    out = argparse.ArgumentParser(prog="python -m benchmarks.learner", description="Throughput of the learner's engines.")
    out.add_argument("--shape", choices=SHAPES, default="nano")
    out.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    out.add_argument("--sides", nargs="+", choices=SIDES, default=["bare", "fsdp2", "zero2", "zero3"])
    out.add_argument("--rows", type=int, default=16, help="rows of a step (default 16)")
    out.add_argument("--prompt", type=int, default=128, help="tokens of a prompt (default 128)")
    out.add_argument("--response", type=int, default=128, help="tokens of a response (default 128)")
    out.add_argument("--siblings", type=int, default=1, help="neighbouring rows with the same prompt (default 1)")
    out.add_argument("--micro-batch-tokens", type=int, default=16_384)
    out.add_argument("--gradient-checkpointing", action="store_true")
    out.add_argument("--steps", type=int, default=7, help="steps measured (default 7)")
    out.add_argument("--warmup", type=int, default=2, help="steps before them, not measured (default 2)")
    return out


@dataclass(slots=True)
class Side:
    """One of the things compared."""

    name: str
    process: psutil.Process
    step: Callable[[], Awaitable[Any]]
    close: Callable[[], Awaitable[None]]
    seconds: list[float] = field(default_factory=list)
    cpu_seconds: list[float] = field(default_factory=list)
    loss: float = 0.0


class BareStep:
    """A training step of transformers and torch alone, in a process of its own."""

    def __init__(self, folder: str, device: str, rows: TokenRows, options: argparse.Namespace) -> None:
        import torch
        from transformers import AutoModelForCausalLM

        self.torch, self.device = torch, device
        if device == "cpu":
            torch.set_num_threads(os.cpu_count() or 1)
        self.model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="sdpa")
        self.model.to(device)
        if options.gradient_checkpointing:
            self.model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        self.model.train()
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=OPTIMIZER.lr, betas=OPTIMIZER.betas, weight_decay=0.0, fused=True)
        ids = torch.cat([rows.prompt_ids_BP, rows.response_ids_BT], dim=1).to(device)
        self.parts = ids.split(max(1, options.micro_batch_tokens // ids.shape[1]))
        self.kept = rows.response_ids_BT.shape[1]

    def pid(self) -> int:
        """Of this process."""
        return os.getpid()

    def step(self) -> float:
        """One optimizer step; returns the loss."""
        torch, total = self.torch, 0.0
        rows = sum(len(part) for part in self.parts)
        for part in self.parts:
            with torch.autocast(self.device, dtype=torch.bfloat16, enabled=self.device == "cuda"):
                logits = self.model(input_ids=part, logits_to_keep=self.kept + 1, use_cache=False).logits[:, :-1]
            targets = part[:, -self.kept :].flatten()
            loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1).float(), targets) * (len(part) / rows)
            loss.backward()
            total += float(loss)
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), OPTIMIZER.clip_grad)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return total


async def bare_side(folder: Path, rows: TokenRows, options: argparse.Namespace) -> Side:
    """The bare step in a Ray actor with the environment of a learner's rank."""
    environment = {"OMP_NUM_THREADS": str(os.cpu_count() or 1), "OMP_WAIT_POLICY": "PASSIVE"} if options.device == "cpu" else {}
    actor_class = ray.remote(num_cpus=1, num_gpus=int(options.device == "cuda"), runtime_env={"env_vars": environment})(BareStep)
    actor: Any = actor_class.remote(str(folder), options.device, rows, options)

    async def step() -> float:
        return await actor.step.remote()

    async def close() -> None:
        ray.kill(actor)

    return Side("bare", psutil.Process(await actor.pid.remote()), step, close)


async def learner_side(name: str, folder: Path, rows: TokenRows, options: argparse.Namespace) -> Side:
    """One rank of an engine."""
    engine = {"engine": "fsdp2"} if name == "fsdp2" else {"engine": "deepspeed", "zero_stage": int(name[-1])}
    settings = LearnerSettings.model_validate(
        engine | {"micro_batch_tokens": options.micro_batch_tokens, "gradient_checkpointing": options.gradient_checkpointing}
    )
    learner = Learner(folder, settings, device=options.device, seed=0)
    await learner.start()
    await learner.configure_optimizer(OPTIMIZER, 1000)

    async def step() -> float:
        return (await learner.sft(rows))["sft/loss"]

    return Side(name, psutil.Process((await learner.describe())[0].pid), step, learner.close)


def random_rows(shape: Shape, options: argparse.Namespace) -> TokenRows:
    """Rows of random tokens; neighbours share their prompts as asked for."""
    import torch

    generator = torch.Generator().manual_seed(0)

    def ids(count: int) -> list[int]:
        return torch.randint(4, min(shape.vocabulary, 256), (count,), generator=generator).tolist()

    prompts = [ids(options.prompt) for _ in range(options.rows // options.siblings)]
    return TokenRows.of([(prompt, ids(options.response)) for prompt in prompts for _ in range(options.siblings)])


async def timed(side: Side, warmup: bool) -> None:
    """One step."""
    start, spent = time.monotonic(), sum(side.process.cpu_times()[:2])
    side.loss = await side.step()
    if not warmup:
        side.seconds.append(time.monotonic() - start)
        side.cpu_seconds.append(sum(side.process.cpu_times()[:2]) - spent)
    print(f"[learner] {side.name}: {time.monotonic() - start:.3f} s, loss {side.loss:.4f}", file=sys.stderr, flush=True)


async def measure(folder: Path, rows: TokenRows, options: argparse.Namespace) -> list[Side]:
    """Steps of every side: on CPU in turn, so that a disturbance meets all; on a GPU one side has the device to itself."""
    opened: list[Side] = []
    groups = [options.sides] if options.device == "cpu" else [[name] for name in options.sides]
    for names in groups:
        sides = [await (bare_side(folder, rows, options) if n == "bare" else learner_side(n, folder, rows, options)) for n in names]
        for number in range(options.warmup + options.steps):
            for side in sides:
                await timed(side, warmup=number < options.warmup)
        for side in sides:
            await side.close()
        opened += sides
    return opened


def figures(sides: Sequence[Side], shape: Shape, options: argparse.Namespace, peak_tflops: float | None) -> dict[str, dict[str, float]]:
    """Of each side: median step, tokens of rows a second, speed relative to the bare step, utilisation where the peak is known.

    ``cpu_speed_to_bare`` compares CPU seconds of the computing process, which neighbours on the machine disturb less.
    """
    row = options.prompt + options.response
    bare = next((side for side in sides if side.name == "bare"), None)
    results: dict[str, dict[str, float]] = {}
    for side in sides:
        step_s = statistics.median(side.seconds)
        prompts = options.rows if side.name == "bare" else options.rows // options.siblings
        tokens = prompts * options.prompt + options.rows * options.response
        once, whole = options.prompt * (options.prompt + 1) / 2, row * (row + 1) / 2
        positions = prompts * once + options.rows * (whole - once)
        flops = shape.step_flops(tokens, options.rows * options.response, positions)
        result = {"step_s": step_s, "tokens_per_s": options.rows * row / step_s, "loss": side.loss, "tflops": flops / step_s / 1e12}
        if bare is not None:
            result["speed_to_bare"] = statistics.median(bare.seconds) / step_s
            result["cpu_speed_to_bare"] = statistics.median(bare.cpu_seconds) / max(statistics.median(side.cpu_seconds), 1e-9)
        if peak_tflops is not None:
            result["mfu"] = flops / step_s / 1e12 / peak_tflops
        results[side.name] = {name: round(value, 4) for name, value in result.items()}
    return results


def main() -> None:
    """Entry point."""
    options = parser().parse_args()
    if options.rows % options.siblings:
        raise SystemExit(f"--rows {options.rows} is no multiple of --siblings {options.siblings}: choose one that is.")
    shape, device = SHAPES[options.shape], "cpu"
    if options.device == "cuda":
        import torch

        device = torch.cuda.get_device_name()
    peak = next((tflops for word, tflops in PEAK_TFLOPS.items() if word in device), None)
    settings = RunSettings(learner=LearnerSettings(ranks=len(options.sides)), cluster=ClusterSettings(object_store_mib=256))
    temp = start_ray(settings)
    try:
        with tempfile.TemporaryDirectory() as work, Neighbours() as neighbours:
            folder = make_policy(Path(work) / "policy", shape, "float32" if options.device == "cpu" else "bfloat16")
            sides = asyncio.run(measure(folder, random_rows(shape, options), options))
    finally:
        stop_ray(temp)
    line = {
        "benchmark": "learner",
        "device": device,
        "parameters": shape.body + shape.head * (1 if shape.tied else 2),
        **{name: value for name, value in vars(options).items() if name not in ("sides", "device")},
        "sides": figures(sides, shape, options, peak),
        "disturbed_cores": round(neighbours.cores, 2),
    }
    print(json.dumps(line))


if __name__ == "__main__":
    main()
