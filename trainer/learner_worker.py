"""One rank of the learner: verl's TrainingWorker with our batches, in a Ray actor."""

import os
import warnings
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, cast

import psutil
import ray
import torch
from tensordict import TensorDict
from torch.optim.lr_scheduler import LambdaLR

warnings.filterwarnings("ignore", message=".* engine is not available.*", category=UserWarning)

from torch.distributed.fsdp import FSDPModule  # noqa: E402
from verl.single_controller.base.decorator import Dispatch, register  # noqa: E402
from verl.utils import tensordict_utils as tu  # noqa: E402
from verl.utils.device import get_device_name  # noqa: E402
from verl.utils.distributed import initialize_global_process_group_ray  # noqa: E402
from verl.workers.engine_workers import TrainingWorker  # noqa: E402
from verl.workers.utils.losses import sft_loss  # noqa: E402
from verl.workers.utils.padding import no_padding_2_padding  # noqa: E402

import trainer.cpu_engine  # noqa: E402, F401  registers the CPU engine
from rollout.buckets import Bucket  # noqa: E402
from rollout.link import Address, new_address  # noqa: E402
from rollout.outgoing import Outgoing  # noqa: E402
from trainer.batch import PolicyBatch  # noqa: E402
from trainer.learner_config import export_policy, optimizer_config, worker_config  # noqa: E402
from trainer.learner_metrics import batch_metrics, mean_over_steps, step_metrics  # noqa: E402
from trainer.learner_spec import LearnerSpec, RankState  # noqa: E402
from trainer.losses import actor_config, learning_rate_factor, policy_loss  # noqa: E402
from trainer.settings import GRPOSettings, OptimizerSettings  # noqa: E402
from trainer.token_rows import TokenRows  # noqa: E402
from trainer.verl_data import mini_batches, share_of_rank, to_tensordict  # noqa: E402

on_all_ranks = register(dispatch_mode=getattr(Dispatch, "ONE_TO_ALL"), blocking=False)  # noqa: B009  an enum that verl fills at run time


class LearnerWorker(TrainingWorker):
    """Every method runs on all ranks at once; a batch comes whole and each rank takes its share."""

    engine: Any

    def __init__(self, spec: LearnerSpec) -> None:
        self.spec = spec
        self._reference: list[torch.Tensor] = []
        self._outgoing = Outgoing()

    @on_all_ranks
    def build(self) -> None:
        """Joins the process group and loads the weights; apart from ``__init__`` so that its errors keep their type.

        Raises:
            ValueError: the model cannot be loaded, or verl does not know an engine argument.
        """
        spec = self.spec
        if spec.device == "cpu":
            torch.set_num_threads(spec.threads)
            initialize_global_process_group_ray(backend="gloo")  # verl asks for "cpu:gloo,cpu:gloo", which torch refuses
        torch.manual_seed(spec.seed)
        try:
            super().__init__(worker_config(spec))
            self.engine.initialize()
        except OSError as failure:
            raise ValueError(f"The policy {spec.model_path} cannot be loaded: {failure}") from None

    @on_all_ranks
    def configure_optimizer(self, settings: OptimizerSettings, total_steps: int) -> None:
        """A fresh AdamW and schedule."""
        engine = self.engine
        engine.optimizer_config = optimizer_config(settings, total_steps)
        engine.optimizer = engine._build_optimizer(engine.module)
        engine.lr_scheduler = LambdaLR(engine.optimizer, lambda step: learning_rate_factor(step, total_steps, settings))
        engine.checkpoint_manager.optimizer = engine.optimizer
        engine.checkpoint_manager.lr_scheduler = engine.lr_scheduler

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
        if settings.kl_coef > 0 and not self._reference:
            raise ValueError(f"trainer.grpo.kl_coef={settings.kl_coef} needs a reference policy: call set_reference first.")
        self.set_loss_fn(partial(policy_loss, actor_config(settings, batch.rows.response_ids_BT.shape[1])))
        parts = [self._policy_data(batch, index, settings) for index in mini_batches(len(batch.rows), settings.updates_per_step)]
        steps = [step_metrics(self._train(data), "actor") for data in parts]
        return mean_over_steps(steps) | batch_metrics(batch) | {"learner/rss_mib": self.rss_mib()}

    def _policy_data(self, batch: PolicyBatch, index: torch.Tensor, settings: GRPOSettings) -> TensorDict:
        """This rank's share of one mini-batch, with the log-probabilities that the loss compares."""
        rows = batch.rows.select(index)
        dense = {"advantages": batch.advantages_BT[index], "rollout_log_probs": batch.rollout_logprobs_BT[index]}
        plain = {
            "global_batch_size": int((rows.loss_mask_BT.sum(1) > 0).sum()),
            "temperature": batch.temperature,
            "calculate_entropy": settings.entropy_coef > 0,
        }
        data = self._share(rows, dense, plain)
        data["old_log_probs"] = self._logprobs(data) if settings.old_logprobs == "recompute" else data["rollout_log_probs"]
        if settings.kl_coef > 0:
            data["ref_log_prob"] = self._reference_logprobs(data)
        return data

    @on_all_ranks
    def logprobs(self, rows: TokenRows, temperature: float) -> tuple[torch.Tensor, torch.Tensor]:
        """This rank's share: indices of rows (-1: none) and their log-probabilities (share, T)."""
        index = share_of_rank(rows, self.rank, self.world_size)
        return index, self._logprobs(self._share(rows, {}, {"temperature": temperature}))

    @on_all_ranks
    def set_reference(self) -> None:
        """Keeps a copy of the weights as they are, this rank's shards."""
        self._reference = [local(parameter).detach().clone() for parameter in self.engine.module.parameters()]

    @on_all_ranks
    def next_bucket(self, max_bytes: int, first: bool, linked: bool) -> Bucket | None:
        """Gathers some more weights; on rank 0 a bucket of them until there are no more, elsewhere nothing."""
        if first:
            self._outgoing.begin(self._full_weights(), max_bytes)
        return self._outgoing.next_bucket(linked=linked, told=self.rank == 0)

    @on_all_ranks
    def link_address(self, members: int) -> Address:
        """Where a link from rank 0 can be made."""
        return new_address(ray.util.get_node_ip_address(), members)

    @on_all_ranks
    def join_link(self, address: Address) -> None:
        """Rank 0 waits there for the engines' workers."""
        if self.rank == 0:
            self._outgoing.join(address, torch.device(get_device_name()))

    @on_all_ranks
    def send_bucket(self) -> None:
        """Rank 0 broadcasts the oldest bucket that was told of."""
        if self.rank == 0:
            self._outgoing.send()

    @on_all_ranks
    def end_buckets(self) -> None:
        """Lets go of weights that were not asked for."""
        self._outgoing.end()

    @on_all_ranks
    def export(self, folder: str) -> None:
        """Writes the gathered weights, config and tokenizer into an existing folder, in the dtype that the model came in."""
        full = {name: tensor.cpu() for name, tensor in self._full_weights()}
        if self.rank == 0:
            export_policy(Path(folder), self.model_config, full)
        torch.distributed.barrier()

    @on_all_ranks
    def save(self, folder: str) -> None:
        """verl's checkpoint: each rank's shards, optimizer, schedule and generators."""
        self.engine.save_checkpoint(folder)

    @on_all_ranks
    def load(self, folder: str) -> None:
        """Restores what ``save`` wrote."""
        self.engine.load_checkpoint(folder, del_local_after_load=False)
        self._reshard()

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
        packed = bool(self.model_config.get("use_remove_padding", False))
        engine = {"use_remove_padding": packed, "use_dynamic_bsz": True, "max_token_len_per_gpu": limit, "use_fused_kernels": False}
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

    def _reference_logprobs(self, data: TensorDict) -> torch.Tensor:
        """The same under the frozen weights, which trade places with the current ones for one forward pass."""
        self._swap_reference()
        try:
            return self._logprobs(data)
        finally:
            self._swap_reference()

    @torch.no_grad()
    def _swap_reference(self) -> None:
        self._reshard()
        for parameter, frozen in zip(self.engine.module.parameters(), self._reference, strict=True):
            current = local(parameter)
            kept = current.clone()
            current.copy_(frozen)
            frozen.copy_(kept)

    def _reshard(self) -> None:
        """Drops unsharded copies, which would outlive a change of the shards."""
        for module in self.engine.module.modules():
            if isinstance(module, FSDPModule):
                module.reshard()

    def _full_weights(self) -> Iterator[tuple[str, torch.Tensor]]:
        """Weights under Hugging Face names, each gathered when its turn comes; a tied output layer appears once, as the embedding."""
        tied = getattr(self.model_config.hf_config, "tie_word_embeddings", False)
        parameters, _ = self.engine.get_per_tensor_param()
        return ((name, full.detach()) for name, full in parameters if not (tied and name == "lm_head.weight"))


def local(parameter: torch.Tensor) -> torch.Tensor:
    """This rank's shard of a parameter, sharing its memory."""
    to_local = getattr(parameter, "to_local", None)
    return to_local() if to_local is not None else parameter
