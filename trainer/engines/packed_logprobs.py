"""From tokens to log-probabilities, the same in every learner engine: packed rows, shared prompts, logits of responses only.

verl's own path needs the flash-attention package to pack, and otherwise pads every row; neither shares prompts.
"""

from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from tensordict import TensorDict
from torch.utils.checkpoint import checkpoint
from verl.utils import tensordict_utils as tu
from verl.utils.torch_functional import entropy_from_logits

from trainer.engines.shared_prompt import pack

CHUNK = 2048
"""Tokens whose logits exist in float32 at once, where the model computes in a shorter type."""


class PackedLogProbs:
    """Mixin of an engine whose model's attention implementation is ``trainer.engines.shared_prompt``."""

    @property
    def compute_dtype(self) -> torch.dtype:
        """What the forward pass computes in."""
        raise NotImplementedError

    def prepare_model_inputs(self, micro_batch: TensorDict) -> tuple[dict[str, Any], dict[str, Any]]:
        """Arguments of the model's forward pass, and what ``prepare_model_outputs`` needs to read its output."""
        prompts, responses = micro_batch["prompts"], micro_batch["responses"]
        flash = responses.device.type == "cuda" and self.compute_dtype != torch.float32
        rows = pack(prompts, responses, flash=flash)
        inputs = {
            "input_ids": rows.ids_1N,
            "attention_mask": None,
            "position_ids": rows.positions_1N,
            "logits_to_keep": rows.sources,
            "packed_rows": rows,
        }
        return inputs, {"rows": rows, "temperature": float(micro_batch["temperature"])}

    def prepare_model_outputs(self, output: Any, output_args: Any, micro_batch: TensorDict, logits_processor_func: Any) -> dict[str, Any]:
        """Log-probabilities (and entropies, where asked for) as verl's losses read them.

        Both are jagged over whole rows, each figure at the token that predicts the response token, 0 elsewhere.
        """
        logits = output.logits[0]  # (response tokens of all rows, vocabulary)
        offsets = micro_batch["input_ids"].offsets()
        places = places_of_predictions(offsets, micro_batch["responses"].offsets())

        def over_rows(values: torch.Tensor) -> torch.Tensor:
            whole = values.new_zeros(int(offsets[-1])).index_copy(0, places, values)
            return torch.nested.nested_tensor_from_jagged(whole, offsets)

        entropy = bool(tu.get_non_tensor_data(data=micro_batch, key="calculate_entropy", default=False))
        figures = token_figures(logits, output_args["rows"].targets, output_args["temperature"], entropy)
        return {name: over_rows(values) for name, values in zip(("log_probs", "entropy"), figures, strict=False)}


def token_figures(logits: torch.Tensor, targets: torch.Tensor, temperature: float, entropy: bool) -> tuple[torch.Tensor, ...]:
    """Log-probability of each target, and the entropy of each distribution where asked for; both (N,) in float32.

    Logits of a shorter type become float32 chunk by chunk, and again in the backward pass, since a whole float32 copy
    would be the largest tensor of the step.

    Args:
        logits: shape (N, vocabulary).
        targets: ids, shape (N,).
    """
    figures = partial(_figures, temperature=temperature, entropy=entropy)
    if logits.dtype == torch.float32:
        return figures(logits, targets)
    chunks = zip(logits.split(CHUNK), targets.split(CHUNK), strict=True)
    parts = [checkpoint(figures, chunk, target, use_reentrant=False) for chunk, target in chunks]
    return tuple(torch.cat(part) for part in zip(*parts, strict=True))


def _figures(logits: torch.Tensor, targets: torch.Tensor, *, temperature: float, entropy: bool) -> tuple[torch.Tensor, ...]:
    logits = logits.float()
    if temperature != 1.0:
        logits = logits / temperature
    logprobs = -F.cross_entropy(logits, targets, reduction="none")
    return (logprobs, entropy_from_logits(logits)) if entropy else (logprobs,)


def places_of_predictions(row_offsets: torch.Tensor, response_offsets: torch.Tensor) -> torch.Tensor:
    """For each response token, in row order, the place before it in the rows laid end to end."""
    lengths_B = response_offsets.diff()
    starts_B = row_offsets[1:] - lengths_B - response_offsets[:-1] - 1
    return torch.arange(int(response_offsets[-1]), device=lengths_B.device) + starts_B.repeat_interleave(lengths_B)
