"""Token rows as verl's engine takes them: jagged tensors in a TensorDict, cut into mini-batches and ranks' shares."""

from typing import Any

import torch
from tensordict import TensorDict
from verl.utils import tensordict_utils as tu
from verl.utils.seqlen_balancing import get_seqlen_balanced_partitions

from trainer.token_rows import TokenRows, within


def jagged(values_BL: torch.Tensor, valid_BL: torch.Tensor) -> torch.Tensor:
    """The valid places of each row, as a jagged tensor."""
    lengths_B = valid_BL.sum(dim=1)
    offsets = torch.cat([lengths_B.new_zeros(1), lengths_B.cumsum(0)])
    return torch.nested.nested_tensor_from_jagged(values_BL[valid_BL], offsets)


def to_tensordict(rows: TokenRows, dense: dict[str, torch.Tensor], plain: dict[str, Any]) -> TensorDict:
    """One batch for ``engine.train_batch`` or ``engine.infer_batch``.

    Args:
        rows: the tokens.
        dense: further tensors of shape (B, T) or (B,).
        plain: further values that are no tensors.
    """
    prompt_BP = within(rows.prompt_lengths_B, rows.prompt_ids_BP.shape[1])
    response_BT = within(rows.response_lengths_B, rows.response_ids_BT.shape[1])
    valid_BL = torch.cat([prompt_BP, response_BT], dim=1)
    ids_BL = torch.cat([rows.prompt_ids_BP, rows.response_ids_BT], dim=1)
    loss_mask_BL = torch.cat([torch.zeros_like(rows.prompt_ids_BP), rows.loss_mask_BT], dim=1)
    tensors = {
        "input_ids": jagged(ids_BL, valid_BL),
        "position_ids": jagged(valid_BL.long().cumsum(1) - 1, valid_BL),
        "prompts": jagged(rows.prompt_ids_BP, prompt_BP),
        "responses": jagged(rows.response_ids_BT, response_BT),
        "loss_mask": jagged(loss_mask_BL, valid_BL),
        "response_mask": rows.loss_mask_BT,
    }
    values = {"max_response_len": rows.response_ids_BT.shape[1], "temperature": 1.0, "calculate_entropy": False, "pad_token_id": 0}
    return tu.get_tensordict(tensors | dense, values | plain)


def share_of_rank(rows: TokenRows, rank: int, ranks: int) -> torch.Tensor:
    """Indices of the rows that one rank computes: equal counts, balanced by tokens.

    Every rank computes this for itself and gets the same partition. Where the rows do not divide by the ranks, the
    shortest row is repeated; ``-1`` stands for such a repetition, whose tokens count nowhere.
    """
    if ranks == 1:
        return torch.arange(len(rows))
    lengths = rows.lengths_B.tolist()
    missing = -len(rows) % ranks
    parts = get_seqlen_balanced_partitions(lengths + [min(lengths)] * missing, ranks, equal_size=True)
    return torch.tensor([index if index < len(rows) else -1 for index in parts[rank]])


def mini_batches(rows: int, count: int) -> list[torch.Tensor]:
    """Row indices of each of ``count`` mini-batches (fewer where there are fewer rows), in order, so that groups stay together."""
    return [part for part in torch.arange(rows).tensor_split(min(count, rows))]
