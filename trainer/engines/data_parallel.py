"""What an engine of verl answers when every rank computes the whole model on rows of its own."""

from typing import Any, cast

import torch.distributed as dist
from verl.workers.engine.base import BaseEngine, BaseEngineCtx


class DataParallelEngine(BaseEngine):
    """No model parallelism, and nothing that verl would have to move between devices."""

    module: Any
    lr_scheduler: Any
    mode: str | None = None

    @property
    def is_param_offload_enabled(self) -> bool:
        return False

    @property
    def is_optimizer_offload_enabled(self) -> bool:
        return False

    def train_mode(self, **kwargs: Any) -> BaseEngineCtx:
        return _Mode(self, "train", **kwargs)

    def eval_mode(self, **kwargs: Any) -> BaseEngineCtx:
        return _Mode(self, "eval", **kwargs)

    def lr_scheduler_step(self) -> float:
        self.lr_scheduler.step()
        return self.lr_scheduler.get_last_lr()[0]

    def get_data_parallel_rank(self) -> int:
        return dist.get_rank()

    def get_data_parallel_size(self) -> int:
        return dist.get_world_size()

    def get_data_parallel_group(self) -> Any:
        return dist.group.WORLD

    def is_mp_src_rank_with_outputs(self) -> bool:
        return True


class _Mode(BaseEngineCtx):
    """Puts the model into training or evaluation mode."""

    def __enter__(self) -> None:
        super().__enter__()
        cast(DataParallelEngine, self.engine).module.train(self.mode == "train")

    def __exit__(self, kind: Any, failure: Any, trace: Any) -> None:
        if self.mode == "train":
            self.engine.optimizer_zero_grad()
        super().__exit__(kind, failure, trace)
