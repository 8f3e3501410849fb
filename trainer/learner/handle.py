"""The driver's handle on the learner: verl training workers in Ray actors, one per rank.

Every method is a coroutine and leaves the event loop free. One call at a time: the ranks work in step. The learner
knows batches and weights; which problems they come from and when to publish is the loop's business.
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Sequence
from pathlib import Path
from typing import Any

import ray
import torch
from ray.util.placement_group import PlacementGroup, remove_placement_group

from rollout.weights.buckets import Bucket
from rollout.weights.link import Address
from trainer.algorithm.batch import PolicyBatch
from trainer.cluster.placement import Placer, learner_groups
from trainer.engines.platform import select_platform, verl_environment
from trainer.engines.token_rows import TokenRows
from trainer.learner.ranks import all_ranks, end_processes
from trainer.learner.spec import LearnerSpec, RankState
from trainer.learner.weights import LearnerWeights, LinkCalls
from trainer.settings import GRPOSettings, LearnerSettings, OptimizerSettings
from workflow.atomic import replace_folder

MARKER = "learner.json"
"""In each checkpoint: which topology wrote it."""
WATCH_EVERY_S = 2.0
"""Between two looks at the ranks."""


class Learner:
    """Policy weights, optimizer and KL reference, spread over ``learner.ranks`` processes."""

    def __init__(
        self,
        model_path: str | Path,
        settings: LearnerSettings,
        *,
        device: str,
        seed: int,
        deterministic: bool = False,
        place: Placer | None = None,
        weights_dtype: str | None = None,
        imports: tuple[str, ...] = (),
    ) -> None:
        """
        Args:
            model_path: Hugging Face folder or id that the weights start from.
            settings: engine, ranks and micro-batches. Each rank takes one logical CPU (and on ``cuda`` one GPU) of Ray.
            device: ``cpu`` or ``cuda``.
            seed: of every rank's generators.
            deterministic: the same batches give the same weights to the last bit.
            place: makes a placement group for each machine, whenever the ranks are started; left out: any place will do.
            weights_dtype: torch's name for the type that those who get the weights hold them in; left out: float32.
            imports: plug-ins that every rank loads (``trainer.imports``).
        """
        self.spec = LearnerSpec(str(model_path), settings, device, seed, deterministic, weights_dtype, imports)
        self._place = place or (lambda: learner_groups(settings, device))
        self._placement: list[PlacementGroup] = []
        self._group: Any = None
        self._creating: asyncio.Task[None] | None = None
        self._ranks: list[RankState] = []
        self._steady = asyncio.Lock()  # held by whatever reads or changes the weights: sending may merge adapters into them for a while
        self._changes = 0

    async def start(self) -> None:
        """Brings the ranks up and loads the weights; Ray must run. May be awaited beside the start of other actors.

        Raises:
            ValueError: the model cannot be loaded, a setting is unknown to verl, or Ray has too few CPUs or GPUs.
        """
        self._creating = asyncio.ensure_future(asyncio.to_thread(self._create))
        await asyncio.shield(self._creating)
        self._ranks = await self.describe()
        await self._all(self._group.build())

    async def configure_optimizer(self, settings: OptimizerSettings, total_steps: int) -> None:
        """A fresh AdamW and learning-rate schedule over ``total_steps`` optimizer steps (between stages)."""
        await self._all(self._group.configure_optimizer(settings, total_steps))

    async def sft(self, rows: TokenRows) -> dict[str, float]:
        """One optimizer step of supervised fine-tuning; returns ``sft/*`` metrics (loss in nats per token)."""
        async with self._changing():
            return (await self._all(self._group.sft(ray.put(rows))))[0]

    async def update(self, batch: PolicyBatch, settings: GRPOSettings) -> dict[str, float]:
        """One step of policy optimisation, ``updates_per_step`` optimizer steps; returns ``actor/*`` and ``batch/*`` metrics.

        Raises:
            ValueError: ``kl_coef`` is above 0 and ``set_reference`` was not called.
        """
        async with self._changing():
            return (await self._all(self._group.update(ray.put(batch), settings)))[0]

    async def logprobs(self, rows: TokenRows, *, temperature: float = 1.0, reference: bool = False) -> torch.Tensor:
        """Log-probabilities (B, T) of the response tokens under the current weights, or the KL reference's; 0 beyond each response."""
        logprobs_BT = torch.zeros(rows.response_ids_BT.shape)
        async with self._steady:
            shares = await self._all(self._group.logprobs(ray.put(rows), temperature, reference))
        for index, share_BT in shares:
            logprobs_BT[index[index >= 0]] = share_BT[index >= 0]
        return logprobs_BT

    async def set_reference(self) -> None:
        """Freezes a copy of the current weights as the policy that the KL term refers to."""
        async with self._steady:
            await self._all(self._group.set_reference())

    async def weights(self) -> LearnerWeights:
        """The weights as they are now, for ``Fleet.publish``; gathered bucket by bucket while they are sent."""
        return LearnerWeights(
            self._still, self._next_bucket, self._changes, LinkCalls(self._link_address, self._join_link, self._send_bucket)
        )

    async def _next_bucket(self, max_bytes: int, first: bool, linked: bool) -> Bucket | None:
        return (await self._all(self._group.next_bucket(max_bytes, first, linked)))[0]

    async def _link_address(self, members: int) -> Address:
        return (await self._all(self._group.link_address(members)))[0]

    async def _join_link(self, address: Address) -> None:
        await self._all(self._group.join_link(address))

    async def _send_bucket(self) -> None:
        await self._all(self._group.send_bucket())

    @contextlib.asynccontextmanager
    async def _changing(self) -> AsyncIterator[None]:
        """Around what changes the weights."""
        async with self._steady:
            self._changes += 1
            yield

    @contextlib.asynccontextmanager
    async def _still(self) -> AsyncIterator[int]:
        """Keeps the weights as they are while they are sent; how often they changed so far. Whatever was not sent is let go."""
        async with self._steady:
            try:
                yield self._changes
            finally:
                await self._all(self._group.end_buckets())

    async def export(self, folder: Path) -> None:
        """Writes the policy as a Hugging Face folder (config, weights, tokenizer), replacing an earlier export."""
        async with self._steady:
            with replace_folder(folder, marker="config.json") as partial:
                await self._all(self._group.export(str(partial)))

    async def save(self, folder: Path) -> None:
        """Writes weights, optimizer, schedule and generators into an existing folder.

        The KL reference is not saved: it is the policy that ``set_reference`` met, which a resumed run starts from again.
        """
        async with self._steady:
            await self._all(self._group.save(str(folder)))
            (folder / MARKER).write_text(json.dumps(self._topology()))

    async def load(self, folder: Path) -> None:
        """Restores what ``save`` wrote. ``configure_optimizer`` comes first, with the settings of the saved run.

        Raises:
            ValueError: not a checkpoint, or one of another engine or number of ranks.
        """
        marker = folder / MARKER
        if not marker.exists():
            raise ValueError(f"{folder} holds no checkpoint of a learner: {MARKER} is missing.")
        saved = json.loads(marker.read_text())
        if saved != self._topology():
            raise ValueError(f"{folder} was written with {saved}, this learner has {self._topology()}: set learner.ranks and engine alike.")
        async with self._changing():
            await self._all(self._group.load(str(folder)))

    async def describe(self) -> list[RankState]:
        """Process and memory of each rank."""
        return await self._all(self._group.describe())

    async def close(self) -> None:
        """Ends every rank and waits until those on this machine are gone; harmless twice and after a failed start."""
        if self._creating is not None:
            with contextlib.suppress(Exception):
                await asyncio.shield(self._creating)
        await asyncio.to_thread(self._destroy)

    def _topology(self) -> dict[str, Any]:
        settings = self.spec.settings
        stage = f" zero_stage={settings.zero_stage}" if settings.engine == "deepspeed" else ""
        return {"engine": settings.engine + stage, "ranks": settings.ranks}

    def _create(self) -> None:
        """Placement and actors; blocks."""
        select_platform()
        from verl.single_controller.ray import RayClassWithInitArgs, RayResourcePool, RayWorkerGroup

        from trainer.learner.worker import LearnerWorker

        gpu = self.spec.device == "cuda"
        self._placement = self._place()
        each = [group.bundle_count for group in self._placement]
        pool = RayResourcePool(process_on_nodes=each, use_gpu=gpu, max_colocate_count=1)
        pool.pgs = self._placement
        environment = verl_environment(self.spec.device)
        if self.spec.deterministic:
            environment["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"  # what torch's deterministic algorithms ask of cuBLAS
        if not gpu:
            environment["OMP_NUM_THREADS"] = str(self.spec.threads)
            environment["OMP_WAIT_POLICY"] = "PASSIVE"  # engines and sandboxes share the cores
        actor = RayClassWithInitArgs(ray.remote(LearnerWorker), self.spec)
        self._group = RayWorkerGroup(pool, actor, device_name=self.spec.device, worker_env=environment)

    def _destroy(self) -> None:
        """Kills the actors and frees their place; blocks until their processes on this machine have ended."""
        if self._group is not None:
            for worker in self._group.workers:
                ray.kill(worker)
        for group in self._placement:
            remove_placement_group(group)
        here = ray.get_runtime_context().get_node_id() if self._ranks else ""
        pids = [rank.pid for rank in self._ranks if rank.node_id == here]
        self._group, self._placement, self._ranks = None, [], []
        end_processes(pids)

    async def watch(self) -> None:
        """Looks after the ranks for ever, also while nobody asks them anything.

        Raises:
            LearnerLostError: one died.
        """
        while True:
            await self._all(self._group.alive())
            await asyncio.sleep(WATCH_EVERY_S)

    async def _all(self, references: Sequence[Awaitable[Any]]) -> list[Any]:
        return await all_ranks(references, self.spec.settings.timeout_s)
