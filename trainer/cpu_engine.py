"""verl's FSDP2 engine on CPU ranks, registered under the same backend names as on GPU.

Sharding, micro-batches, gradients, clipping and checkpoints are verl's. What differs is how log-probabilities come
from logits: verl's path without flash-attention runs one ``logsumexp`` a token, which on a CPU costs as much as
the model itself.
"""

from typing import Any

import torch
import torch.nn.functional as F
from tensordict import TensorDict
from verl.utils import tensordict_utils as tu
from verl.utils.torch_functional import entropy_from_logits
from verl.workers.engine import EngineRegistry
from verl.workers.engine.fsdp.transformer_impl import FSDPEngineWithLMHead


@EngineRegistry.register(model_type="language_model", backend=["fsdp2"], device="cpu")
class CPUFSDPEngine(FSDPEngineWithLMHead):
    """FSDP2 over gloo with padded rows (CPU attention kernels take no packed ones)."""

    def prepare_model_outputs(self, output: Any, output_args: Any, micro_batch: TensorDict, logits_processor_func: Any) -> dict[str, Any]:
        """Log-probabilities (and entropies, where asked for) of each row's next tokens, as jagged tensors of the rows' lengths."""
        input_ids = micro_batch["input_ids"]
        offsets = input_ids.offsets()
        lengths = offsets.diff()
        logits = output.logits  # (rows, longest, vocabulary)
        if not output_args["temperature_is_one"]:
            logits = logits / output_args["temperature"][:, None, None].clamp(min=1e-8)
        valid = torch.arange(logits.shape[1])[None, :] < lengths[:, None]
        labels = torch.zeros(valid.shape, dtype=torch.long)
        labels[valid] = output_args["input_ids_rmpad_rolled"]
        log_probs = -F.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none")
        result = {"log_probs": torch.nested.nested_tensor_from_jagged(log_probs.view(valid.shape)[valid], offsets)}
        if tu.get_non_tensor_data(data=micro_batch, key="calculate_entropy", default=False):
            result["entropy"] = torch.nested.nested_tensor_from_jagged(entropy_from_logits(logits)[valid], offsets)
        return result
