"""Token rows as verl's engine takes them: jagged tensors in a TensorDict, cut into mini-batches and ranks' shares."""

from typing import Any

import torch
from tensordict import TensorDict
from verl.utils import tensordict_utils as tu
from verl.utils.seqlen_balancing import get_seqlen_balanced_partitions

from trainer.engines.token_rows import TokenRows, within


def to_jagged(values_BL: torch.Tensor, valid_BL: torch.Tensor) -> torch.Tensor:
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
    tensors: dict[str, torch.Tensor | list[Any]] = {
        "input_ids": to_jagged(ids_BL, valid_BL),
        "position_ids": to_jagged(valid_BL.long().cumsum(1) - 1, valid_BL),
        "prompts": to_jagged(rows.prompt_ids_BP, prompt_BP),
        "responses": to_jagged(rows.response_ids_BT, response_BT),
        "loss_mask": to_jagged(loss_mask_BL, valid_BL),
        "response_mask": rows.loss_mask_BT,
    }
    values = {"max_response_len": rows.response_ids_BT.shape[1], "temperature": 1.0, "calculate_entropy": False, "pad_token_id": 0}
    return tu.get_tensordict(tensors | dense, values | plain)


def set_response_mask(data: TensorDict, mask_BT: torch.Tensor) -> None:
    """Changes which response tokens the loss counts, in both forms in which verl reads it."""
    offsets, response_offsets = data["input_ids"].offsets(), data["responses"].offsets()
    lengths_B = response_offsets.diff()
    starts_B = offsets[1:] - lengths_B - response_offsets[:-1]
    places = torch.arange(int(response_offsets[-1])) + starts_B.repeat_interleave(lengths_B)
    whole = mask_BT.new_zeros(int(offsets[-1]))
    whole[places] = mask_BT[within(lengths_B, mask_BT.shape[1])]
    data["response_mask"] = mask_BT
    data["loss_mask"] = torch.nested.nested_tensor_from_jagged(whole, offsets)


def share_of_rank(rows: TokenRows, rank: int, ranks: int) -> torch.Tensor:
    """Indices of the rows that one rank computes, balanced by tokens.

    Every rank computes this for itself and gets the same partition. Neighbours with the same prompt stay on one rank,
    where they share it, unless there are fewer prompts than ranks. All shares have the same number of rows, so that all
    ranks can be cut into equally many micro-batches: ``-1`` stands for a row without loss that makes up the number.
    """
    if ranks == 1:
        return torch.arange(len(rows))
    units = _neighbours(rows)
    if len(units) < ranks:
        units = [[index] for index in range(len(rows))]
    lengths = rows.lengths_B.tolist()
    tokens: list[int] = [sum(lengths[index] for index in unit) for unit in units]
    shares: list[list[int]]
    if len(units) < ranks:
        shares = units + [[]] * (ranks - len(units))
    else:
        parts: Any = get_seqlen_balanced_partitions(tokens, ranks, equal_size=False)
        shares = [[index for unit in part for index in units[unit]] for part in parts]
    most = max(map(len, shares))
    return torch.tensor(shares[rank] + [-1] * (most - len(shares[rank])))


def _neighbours(rows: TokenRows) -> list[list[int]]:
    """Runs of rows with the same prompt."""
    same_B = (rows.prompt_ids_BP[1:] == rows.prompt_ids_BP[:-1]).all(dim=1) & (rows.prompt_lengths_B[1:] == rows.prompt_lengths_B[:-1])
    runs = [[0]]
    for index, same in enumerate(same_B.tolist(), start=1):
        if same:
            runs[-1].append(index)
        else:
            runs.append([index])
    return runs


def mini_batches(rows: int, count: int) -> list[torch.Tensor]:
    """Row indices of each of ``count`` mini-batches (fewer where there are fewer rows), in order, so that groups stay together."""
    return [part for part in torch.arange(rows).tensor_split(min(count, rows))]
