"""What runs inside vLLM's worker processes: takes weights bucket by bucket and reads back what was loaded.

vLLM imports this module in each worker as ``worker_extension_cls``; importing it makes the weight-transfer backend ``buckets`` known.
The model is loaded layer by layer (vLLM's layerwise reload), so that a worker never holds more than a few buckets beside its weights.
"""

import mmap
import os
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, cast

import psutil
import torch
from vllm.distributed.weight_transfer import WeightTransferEngine, WeightTransferEngineFactory
from vllm.distributed.weight_transfer.base import WeightTransferInitInfo, WeightTransferUpdateInfo
from vllm.model_executor.layers.vocab_parallel_embedding import UnquantizedEmbeddingMethod
from vllm.model_executor.model_loader.mtp_validation import disable_mtp_completeness_check
from vllm.model_executor.model_loader.reload import finalize_layerwise_reload, initialize_layerwise_reload

from rollout.engines.vllm.read_back import ReadBack
from rollout.weights.buckets import TensorSum, WeightsMismatchError, digest, offsets, tensor_of
from rollout.weights.link import Address, Link

BACKEND = "buckets"
WATCH = "actor-watch"
WATCH_EVERY_S = 1.0
"""How often a worker looks whether its actor is still there."""


@dataclass
class BucketInit(WeightTransferInitInfo):
    """Where to meet the sender; not needed for buckets that come through the memory of the machine."""

    host: str
    port: int
    members: int
    first: int
    """Number of the engine's first worker among the members."""


@dataclass
class BucketUpdate(WeightTransferUpdateInfo):
    """One bucket."""

    path: str
    """File to map, in the memory of the engine's actor; it is freed when its last user unmaps it. Empty: the bucket comes over the link."""
    tensors: list[tuple[str, str, list[int], int]]
    """Name, dtype, shape and checksum of each."""


class BucketEngine(WeightTransferEngine[BucketInit, BucketUpdate]):
    """Receives the weights of one update: each tensor's bytes are checked before it is loaded."""

    init_info_cls = BucketInit
    update_info_cls = BucketUpdate

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._received: list[TensorSum] = []
        self._missing: set[str] = set()
        self._read_back: ReadBack | None = None
        self._link: Link | None = None
        self.verify = True

    def init_transfer_engine(self, init_info: BucketInit) -> None:
        """Joins the link to the sender, in place of an earlier one."""
        self._link = None
        member = init_info.first + self.parallel_config.rank
        self._link = Link(Address(init_info.host, init_info.port, init_info.members), member, self.device)

    def start_weight_update(self) -> None:
        """Takes the layers apart; until ``finish_weight_update`` the model cannot run."""
        self._received = []
        self._missing = {name for name, _ in self.model.named_parameters()}
        config = self.model_config
        tied = getattr(config.hf_text_config, "tie_word_embeddings", False)
        whole = self.parallel_config.world_size == 1  # shards of other ranks cannot be read here
        self._read_back = ReadBack(self.model, config.dtype, tied=tied) if self.verify and whole else None
        initialize_layerwise_reload(self.model)

    def update_weights(self, update_info: dict[str, Any]) -> None:
        """Loads one bucket; in contrast to the base class it needs no accelerator."""
        self.receive_weights(self.parse_update_info(update_info))
        if self.device.type != "cpu":
            torch.accelerator.synchronize()

    def receive_weights(self, update_info: BucketUpdate) -> None:
        """Receives a bucket and loads it. A layer whose tensors come in two buckets keeps the first one alive until then.

        Raises:
            WeightsMismatchError: a tensor is not the one that was sent.
        """
        expected = [TensorSum(name, dtype, tuple(shape), total) for name, dtype, shape, total in update_info.tensors]
        starts, size = offsets(expected)
        if update_info.path:
            with open(update_info.path, "r+b") as file:
                data = torch.frombuffer(mmap.mmap(file.fileno(), size), dtype=torch.uint8)
        else:
            assert self._link is not None, "a bucket over the link before the link"
            data = self._link.receive(expected)
        received = [tensor_of(data[start : start + one.nbytes], one) for one, start in zip(expected, starts, strict=True)]
        self.load([(one.name, tensor) for one, tensor in zip(expected, received, strict=True)])
        self._received += expected

    def load(self, tensors: list[tuple[str, torch.Tensor]]) -> None:
        """Hands checked tensors to the model's own loader, which fuses and shards them."""
        if self._read_back is not None:
            self._read_back.expect(tensors)
        with disable_mtp_completeness_check():
            self._missing -= set(cast(Any, self.model).load_weights(iter(tensors)) or ())

    def finish_weight_update(self) -> None:
        """Puts the layers together again and checks them.

        Raises:
            WeightsMismatchError: a parameter got no weights, or the layers hold something else than what was received.
        """
        finalize_layerwise_reload(self.model, self.model_config)
        pack_embeddings(self.model)
        if self._missing:
            raise WeightsMismatchError(f"No weights came for {len(self._missing)} parameters, for example {min(self._missing)}.")
        if self._read_back is not None:
            self._read_back.compare()

    def digest(self) -> int:
        """Digest of what the last update brought."""
        return digest(self._received)

    def shutdown(self) -> None:
        """Leaves the link."""
        self._link = None


WeightTransferEngineFactory.register_engine(BACKEND, BucketEngine)


class WorkerExtension:
    """Methods that the engine's actor calls on each worker, beside vLLM's own."""

    weight_transfer_engine: Any

    def end_with_actor(self, actor: int) -> None:
        """Ends this process with its actor's: it would outlive an actor that was killed."""
        if any(thread.name == WATCH for thread in threading.enumerate()):
            return
        process = psutil.Process(actor)

        def watch() -> None:
            with suppress(psutil.NoSuchProcess):
                while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                    time.sleep(WATCH_EVERY_S)
            os._exit(1)

        threading.Thread(target=watch, name=WATCH, daemon=True).start()

    def verify_loaded(self, wanted: bool) -> None:
        """Whether later updates are read back."""
        self.weight_transfer_engine.verify = wanted

    def held_digest(self) -> int:
        """Digest of the weights that this worker holds."""
        return self.weight_transfer_engine.digest()


def pack_embeddings(model: torch.nn.Module) -> None:
    """On CPU the head multiplies with a packed copy, which a reload leaves as it was where head and embedding are tied."""
    for module in model.modules():
        method = getattr(module, "quant_method", None)
        if isinstance(method, UnquantizedEmbeddingMethod):
            method.process_weights_after_loading(module)
