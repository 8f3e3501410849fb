"""One rank of the learner: verl's TrainingWorker with our batches, in a Ray actor."""

import os
import warnings
from collections.abc import Iterator
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any, cast

import psutil
import ray
import torch
from tensordict import TensorDict

warnings.filterwarnings("ignore", message=".* engine is not available.*", category=UserWarning)

from verl.single_controller.base.decorator import Dispatch, register  # noqa: E402
from verl.utils import tensordict_utils as tu  # noqa: E402
from verl.utils.device import get_device_name  # noqa: E402
from verl.utils.distributed import initialize_global_process_group_ray  # noqa: E402
from verl.workers.engine_workers import TrainingWorker  # noqa: E402
from verl.workers.utils.losses import sft_loss  # noqa: E402
from verl.workers.utils.padding import no_padding_2_padding  # noqa: E402

import trainer.engines.fsdp2  # noqa: E402, F401  registers the engine
from rollout.weights.buckets import Bucket  # noqa: E402
from rollout.weights.link import Address, new_address  # noqa: E402
from rollout.weights.sender import WeightsSender  # noqa: E402
from trainer.algorithm.batch import PolicyBatch  # noqa: E402
from trainer.algorithm.losses import actor_config, learning_rate_factor, policy_loss  # noqa: E402
from trainer.algorithm.rollout_correction import correct  # noqa: E402
from trainer.engines.lora import merge_weights  # noqa: E402
from trainer.engines.token_rows import TokenRows  # noqa: E402
from trainer.engines.verl_data import mini_batches, share_of_rank, to_tensordict  # noqa: E402
from trainer.learner.config import export_policy, optimizer_config, worker_config  # noqa: E402
from trainer.learner.metrics import batch_metrics, mean_over_steps, step_metrics  # noqa: E402
from trainer.learner.spec import LearnerSpec, RankState  # noqa: E402
from trainer.settings import GRPOSettings, OptimizerSettings  # noqa: E402
from workflow.registry import load_plugins  # noqa: E402

on_all_ranks = register(dispatch_mode=getattr(Dispatch, "ONE_TO_ALL"), blocking=False)  # noqa: B009  an enum that verl fills at run time


class LearnerWorker(TrainingWorker):
    """Every method runs on all ranks at once; a batch comes whole and each rank takes its share."""

    engine: Any

    def __init__(self, spec: LearnerSpec) -> None:
        self.spec = spec
        self._sender = WeightsSender()

    @on_all_ranks
    def build(self) -> None:
        """Joins the process group and loads the weights; apart from ``__init__`` so that its errors keep their type.

        Raises:
            ValueError: the model or a plug-in cannot be loaded, or verl does not know an engine argument.
        """
        spec = self.spec
        load_plugins(spec.imports)
        if spec.device == "cpu":
            torch.set_num_threads(spec.threads)
            initialize_global_process_group_ray(backend="gloo")  # verl asks for "cpu:gloo,cpu:gloo", which torch refuses
        torch.manual_seed(spec.seed)
        if spec.deterministic:
            torch.use_deterministic_algorithms(True, warn_only=True)  # some kernels have no such form; the log then says which
        if spec.settings.engine == "deepspeed":
            import trainer.engines.deepspeed  # noqa: F401  registers the engine; DeepSpeed stays unloaded otherwise
        try:
            super().__init__(worker_config(spec))
            self.engine.initialize()
        except OSError as failure:
            raise ValueError(f"The policy {spec.model_path} cannot be loaded: {failure}") from None

    @on_all_ranks
    def configure_optimizer(self, settings: OptimizerSettings, total_steps: int) -> None:
        """A fresh AdamW and schedule."""
        factor = partial(learning_rate_factor, total_steps=total_steps, settings=settings)
        self.engine.configure_optimizer(optimizer_config(settings, total_steps), factor)

    @on_all_ranks
    def sft(self, rows: TokenRows) -> dict[str, float]:
        """One optimizer step on the mean negative log-likelihood of the loss tokens."""
        self.set_loss_fn(partial(cast(Any, sft_loss), None))
        data = self._share(rows, {}, {"global_batch_size": len(rows)})
        return step_metrics(self._train(data), "sft") | {"sft/tokens": float(rows.loss_mask_BT.sum())}

    @on_all_ranks
    def update(self, batch: PolicyBatch, settings: GRPOSettings) -> dict[str, float]:
        """The step's mini-batches, one optimizer step each.

        Old and reference log-probabilities are computed before the first of them, under the weights that the step began with.
        """
        if settings.kl_coef > 0 and not self.engine.has_reference:
            raise ValueError(f"trainer.grpo.kl_coef={settings.kl_coef} needs a reference policy: call set_reference first.")
        self.set_loss_fn(partial(policy_loss, actor_config(settings, batch.most_tokens, self.spec.settings.engine)))
        parts = [self._policy_data(batch, index, settings) for index in mini_batches(len(batch.rows), settings.updates_per_step)]
        steps = [step_metrics(self._train(data), "actor") | corrected for data, corrected in parts]
        return mean_over_steps(steps) | batch_metrics(batch) | {"learner/rss_mib": self.rss_mib()}

    def _policy_data(self, batch: PolicyBatch, index: torch.Tensor, settings: GRPOSettings) -> tuple[TensorDict, dict[str, float]]:
        """This rank's share of one mini-batch, with the log-probabilities that the loss compares, and metrics of their correction."""
        rows = batch.rows.select(index)
        dense = {"advantages": batch.advantages_BT[index], "rollout_log_probs": batch.rollout_logprobs_BT[index]}
        plain = {
            "global_batch_size": int((rows.loss_mask_BT.sum(1) > 0).sum()),
            "temperature": batch.temperature,
            "calculate_entropy": settings.entropy_coef > 0,
        }
        data = self._share(rows, dense, plain)
        data["old_log_probs"] = self._logprobs(data) if settings.old_logprobs == "recompute" else data["rollout_log_probs"]
        if settings.kl_coef > 0 and settings.kl_in == "loss":
            with self.engine.as_reference():
                data["ref_log_prob"] = self._logprobs(data)
        return data, correct(data, settings) if settings.old_logprobs == "recompute" else {}

    @on_all_ranks
    def logprobs(self, rows: TokenRows, temperature: float, reference: bool) -> tuple[torch.Tensor, torch.Tensor]:
        """This rank's share: indices of rows (-1: none) and their log-probabilities (share, T)."""
        index = share_of_rank(rows, self.rank, self.world_size)
        with self.engine.as_reference() if reference else nullcontext():
            return index, self._logprobs(self._share(rows, {}, {"temperature": temperature}))

    @on_all_ranks
    def set_reference(self) -> None:
        """The policy as it is now becomes the reference."""
        self.engine.keep_reference()

    @on_all_ranks
    def next_bucket(self, max_bytes: int, first: bool, linked: bool) -> Bucket | None:
        """Gathers some more weights; on rank 0 a bucket of them until there are no more, elsewhere nothing."""
        if first:
            wanted = self.spec.weights_dtype
            self._sender.begin(self._full_weights(None if wanted is None else getattr(torch, wanted)), max_bytes)
        return self._sender.next_bucket(linked=linked, announced=self.rank == 0)

    @on_all_ranks
    def link_address(self, members: int) -> Address:
        """Where a link from rank 0 can be made."""
        return new_address(ray.util.get_node_ip_address(), members)

    @on_all_ranks
    def join_link(self, address: Address) -> None:
        """Rank 0 waits there for the engines' workers."""
        if self.rank == 0:
            self._sender.join(address, torch.device(get_device_name()))

    @on_all_ranks
    def send_bucket(self) -> None:
        """Rank 0 broadcasts the oldest bucket that was announced."""
        if self.rank == 0:
            self._sender.send()

    @on_all_ranks
    def end_buckets(self) -> None:
        """Lets go of weights that were not asked for."""
        self._sender.end()

    @on_all_ranks
    def export(self, folder: str) -> None:
        """Writes the gathered weights, config and tokenizer into an existing folder, in the dtype that the model came in."""
        full = self._whole_on_first_rank()
        if self.rank == 0:
            export_policy(Path(folder), self.model_config, dict(full))
        torch.distributed.barrier()

    @on_all_ranks
    def save(self, folder: str) -> None:
        """Each rank's part of weights and optimizer, schedule and generators."""
        self.engine.save_checkpoint(folder)

    @on_all_ranks
    def load(self, folder: str) -> None:
        """Restores what ``save`` wrote."""
        self.engine.load_checkpoint(folder)

    @on_all_ranks
    def alive(self) -> None:
        """Answers once the rank has done what it was asked before."""

    @on_all_ranks
    def describe(self) -> RankState:
        """Process and memory of this rank."""
        return RankState(os.getpid(), ray.get_runtime_context().get_node_id(), self.rss_mib())

    def rss_mib(self) -> float:
        """Resident memory of this process."""
        return psutil.Process().memory_info().rss / 2**20

    def _share(self, rows: TokenRows, dense: dict[str, torch.Tensor], plain: dict[str, Any]) -> TensorDict:
        """This rank's rows; those without loss (index -1) repeat the shortest row."""
        index = share_of_rank(rows, self.rank, self.world_size)
        missing = index < 0
        index = index.where(~missing, rows.lengths_B.argmin())
        mine = rows.select(index)
        mine.loss_mask_BT[missing] = 0
        limit = max(self.spec.settings.micro_batch_tokens, int(rows.lengths_B.max()))
        engine = {"use_remove_padding": False, "use_dynamic_bsz": True, "max_token_len_per_gpu": limit, "use_fused_kernels": False}
        return to_tensordict(mine, {name: tensor[index] for name, tensor in dense.items()}, engine | plain)

    def _train(self, data: TensorDict) -> dict[str, Any]:
        """One optimizer step on this rank's share of a mini-batch."""
        rate = self.engine.lr_scheduler.get_last_lr()[0]
        tu.assign_non_tensor(data, update_lr_scheduler=True, global_token_num=None)
        return tu.get(self.train_batch(data), "metrics") | {"lr": rate}

    def _logprobs(self, data: TensorDict) -> torch.Tensor:
        """Log-probabilities (rows, T) of the response tokens under the current weights."""
        tu.assign_non_tensor(data, return_model_output=True)
        with self.engine.eval_mode():
            output = self.engine.infer_batch(data, loss_function=None)
        return no_padding_2_padding(output["model_output"]["log_probs"].cpu(), data)

    def _whole_on_first_rank(self) -> list[tuple[str, torch.Tensor]]:
        """The gathered weights in rank 0's main memory; the others take part tensor by tensor and keep nothing."""
        return [(name, tensor.cpu()) for name, tensor in self._full_weights() if self.rank == 0]

    def _full_weights(self, dtype: torch.dtype | None = None) -> Iterator[tuple[str, torch.Tensor]]:
        """(Hugging Face name, full tensor) one at a time, adapters merged, on the rank's device; may share memory with the weights.

        Those of a longer type than ``dtype`` are cast to it.

        All ranks draw all items together. A tied output layer appears once, as the embedding.
        """
        return merge_weights(self.engine.module, self.engine.full_tensor, self.model_config, dtype)
