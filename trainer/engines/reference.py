"""The policy that the KL term refers to, as every engine keeps it."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from peft.tuners.lora import LoraLayer

from trainer.engines.lora import find_adapted_layers


class KeptReference:
    """Mixin of an engine: the weights as they were, sharded like the weights themselves.

    Without adapters they are a copy, which trades places with the weights for a forward pass. With adapters they are the weights
    without them: what has been learnt is added to the frozen weights, and the adapter starts again from nothing. A checkpoint, which
    has the frozen weights, then has the reference too.
    """

    module: Any
    model_config: Any
    _frozen: list[torch.Tensor] | None = None

    def frozen_copy(self) -> list[torch.Tensor]:
        """A copy of this rank's part of the trainable weights."""
        raise NotImplementedError

    def exchange(self, frozen: list[torch.Tensor]) -> None:
        """The trainable weights and ``frozen`` trade places."""
        raise NotImplementedError

    def fold(self, layers: list[LoraLayer]) -> None:
        """Adds each layer's adapter to its weight and sets the adapter to 0."""
        raise NotImplementedError

    def keep_reference(self) -> None:
        """The reference is the policy as it is now."""
        if self.model_config.lora_rank > 0:
            self.fold(list(find_adapted_layers(self.module).values()))
        self._frozen = [] if self.model_config.lora_rank > 0 else self.frozen_copy()

    @property
    def has_reference(self) -> bool:
        return self._frozen is not None

    @contextmanager
    def as_reference(self) -> Iterator[None]:
        """Inside, the engine computes with the reference."""
        assert self._frozen is not None, "keep_reference comes first"
        if self.model_config.lora_rank > 0:
            with self.module.disable_adapter():
                yield
            return
        self.exchange(self._frozen)
        try:
            yield
        finally:
            self.exchange(self._frozen)
