"""verl's FSDP2 engine on CPU ranks, registered under the backend name that it has on GPUs.

Sharding, micro-batches, gradients, clipping and checkpoints are verl's. What differs is the way from tokens to
log-probabilities, where verl's path without flash-attention pads every row and runs one ``logsumexp`` a token:
here rows are packed, siblings share their prompt, and logits are computed for response tokens alone.
"""

from typing import Any

import torch
import torch.nn.functional as F
from tensordict import TensorDict
from verl.utils import tensordict_utils as tu
from verl.utils.torch_functional import entropy_from_logits
from verl.workers.engine import EngineRegistry
from verl.workers.engine.fsdp.transformer_impl import FSDPEngineWithLMHead

from trainer.shared_prompt import pack


@EngineRegistry.register(model_type="language_model", backend=["fsdp2"], device="cpu")
class CPUFSDPEngine(FSDPEngineWithLMHead):
    """FSDP2 over gloo; the model's attention implementation is ``trainer.shared_prompt``."""

    def prepare_model_inputs(self, micro_batch: TensorDict) -> tuple[dict[str, Any], dict[str, Any]]:
        """Arguments of the model's forward pass, and what ``prepare_model_outputs`` needs to read its output."""
        rows = pack(micro_batch["prompts"], micro_batch["responses"])
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
        rows = output_args["rows"]
        logits = output.logits[0]  # (response tokens of all rows, vocabulary)
        if output_args["temperature"] != 1.0:
            logits = logits / output_args["temperature"]
        offsets = micro_batch["input_ids"].offsets()
        places = places_of_predictions(offsets, micro_batch["responses"].offsets())

        def over_rows(values: torch.Tensor) -> torch.Tensor:
            whole = values.new_zeros(int(offsets[-1])).index_copy(0, places, values)
            return torch.nested.nested_tensor_from_jagged(whole, offsets)

        result = {"log_probs": over_rows(-F.cross_entropy(logits, rows.targets, reduction="none"))}
        if tu.get_non_tensor_data(data=micro_batch, key="calculate_entropy", default=False):
            result["entropy"] = over_rows(entropy_from_logits(logits))
        return result


def places_of_predictions(row_offsets: torch.Tensor, response_offsets: torch.Tensor) -> torch.Tensor:
    """For each response token, in row order, the place before it in the rows laid end to end."""
    lengths_B = response_offsets.diff()
    starts_B = row_offsets[1:] - lengths_B - response_offsets[:-1] - 1
    return torch.arange(int(response_offsets[-1])) + starts_B.repeat_interleave(lengths_B)
