"""Packed attention in which siblings share their prompt.

The episodes of a group differ only in their responses. Here each distinct prompt is computed once and every response
attends to it and to itself; tokens of all rows lie in one sequence without padding. Results and gradients are those
of separate rows, for about half of the tokens where responses are as long as prompts. Registered with transformers
as the attention implementation ``shared_prompt``, so it serves every architecture that passes its keyword arguments on.

In float32, and on CPU, keys are gathered row by row for torch's scaled dot product attention. On a GPU in a shorter type torch's
flash kernels for rows of different lengths do it without padding; no further package is needed.
"""

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch.nn.attention.varlen import varlen_attn
from transformers import AttentionInterface

from trainer.engines.token_rows import within

NAME = "shared_prompt"


@dataclass(frozen=True, slots=True, eq=False)
class PackedRows:
    """B rows over G distinct prompts as one sequence of N tokens: all prompts, then all responses.

    P and T are the longest prompt and response, L = P + T. Places beyond a row's end point to token 0 and are masked.
    """

    ids_1N: torch.Tensor
    positions_1N: torch.Tensor
    prompt_places_GP: torch.Tensor
    """Where each prompt's tokens lie in the sequence."""
    prompt_valid_GP: torch.Tensor
    response_places_BT: torch.Tensor
    response_valid_BT: torch.Tensor
    key_places_BL: torch.Tensor
    """What the responses attend to: their prompt's tokens, then their own."""
    key_bias_B1TL: torch.Tensor | None
    """0 where a response token may look, else -inf; None where flash kernels attend."""
    flash: "FlashLengths | None"
    """None where scaled dot product attention attends."""
    sources: torch.Tensor
    """For each response token, in row order, the token that predicts it."""
    targets: torch.Tensor
    """Id of each response token, in row order."""


@dataclass(frozen=True, slots=True, eq=False)
class FlashLengths:
    """The same rows as flash kernels take them: running sums of lengths, from 0, as int32."""

    prompts_G1: torch.Tensor
    responses_B1: torch.Tensor
    keys_B1: torch.Tensor
    """Of each row's prompt and response together."""
    key_places: torch.Tensor
    """Where the keys of all rows lie in the sequence, row by row."""
    prompt_tokens: int
    """Of all distinct prompts, which come first in the sequence."""
    longest_prompt: int
    longest_response: int
    longest_row: int


def pack(prompts: Any, responses: Any, *, flash: bool = False) -> PackedRows:
    """Lays rows out in one sequence.

    Args:
        prompts: jagged ids (B, prompt length).
        responses: jagged ids (B, response length), none empty.
        flash: whether flash kernels will attend.
    """
    device = responses.device
    ids, ends = prompts.values().tolist(), prompts.offsets().tolist()
    row_prompts = [tuple(ids[start:end]) for start, end in itertools.pairwise(ends)]
    distinct = {prompt: number for number, prompt in enumerate(dict.fromkeys(row_prompts))}
    group_B = torch.tensor([distinct[prompt] for prompt in row_prompts], device=device)
    prompt_ids = torch.tensor([token for prompt in distinct for token in prompt], device=device)
    prompt_lengths_G = torch.tensor([len(prompt) for prompt in distinct], device=device)
    response_lengths_B = responses.offsets().diff()
    width = int(response_lengths_B.max())
    prompt_valid_GP = within(prompt_lengths_G, int(prompt_lengths_G.max()))
    response_valid_BT = within(response_lengths_B, width)
    prompt_places_GP = _number_places(prompt_valid_GP, start=0)
    response_places_BT = _number_places(response_valid_BT, start=len(prompt_ids))
    last_prompt_B1 = prompt_places_GP.gather(1, prompt_lengths_G[:, None] - 1)[group_B]
    response_positions_BT = prompt_lengths_G[group_B][:, None] + torch.arange(width, device=device)
    key_places_BL = torch.cat([prompt_places_GP[group_B], response_places_BT], dim=1)
    key_valid_BL = torch.cat([prompt_valid_GP[group_B], response_valid_BT], dim=1)
    return PackedRows(
        ids_1N=torch.cat([prompt_ids, responses.values()])[None],
        positions_1N=torch.cat([_columns(prompt_valid_GP), response_positions_BT[response_valid_BT]])[None],
        prompt_places_GP=prompt_places_GP,
        prompt_valid_GP=prompt_valid_GP,
        response_places_BT=response_places_BT,
        response_valid_BT=response_valid_BT,
        key_places_BL=key_places_BL,
        key_bias_B1TL=None if flash else _bias(prompt_valid_GP[group_B], width),
        flash=FlashLengths(
            prompts_G1=_running(prompt_lengths_G),
            responses_B1=_running(response_lengths_B),
            keys_B1=_running(key_valid_BL.sum(1)),
            key_places=key_places_BL[key_valid_BL],
            prompt_tokens=len(prompt_ids),
            longest_prompt=prompt_valid_GP.shape[1],
            longest_response=width,
            longest_row=int(key_valid_BL.sum(1).max()),
        )
        if flash
        else None,
        sources=torch.cat([last_prompt_B1, response_places_BT[:, :-1]], dim=1)[response_valid_BT],
        targets=responses.values(),
    )


def attend(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    packed_rows: PackedRows | None = None,
    sliding_window: int | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """transformers' attention interface: query (1, heads, N, D), key and value (1, kv heads, N, D) -> (1, N, heads, D).

    Raises:
        ValueError: rows are longer than the model's sliding window, or the model drops attention weights.
    """
    assert packed_rows is not None, "the engine passes packed_rows with every forward call"
    longest = packed_rows.flash.longest_row if packed_rows.flash else packed_rows.key_places_BL.shape[1]
    if sliding_window is not None and longest > sliding_window:
        raise ValueError(f"Rows of {longest} tokens exceed the model's sliding window of {sliding_window}, which packed rows do not have.")
    if dropout:
        raise ValueError(
            f"The model's attention_dropout={dropout} is not 0: packed rows are computed without, so set it to 0 in its config."
        )
    query_NHD, key_NHD, value_NHD = (states[0].transpose(0, 1) for states in (query, key, value))
    if packed_rows.flash is None:
        return attend_padded(query_NHD, key_NHD, value_NHD, packed_rows, scaling)[None], None
    return attend_flash(query_NHD, key_NHD, value_NHD, packed_rows.flash, scaling)[None], None


def attend_padded(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, rows: PackedRows, scale: float | None) -> torch.Tensor:
    """Query (N, heads, D), key and value (N, kv heads, D) -> (N, heads, D), each row padded to the longest."""
    assert rows.key_bias_B1TL is not None

    def take(states_NHD: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
        taken = states_NHD.reshape(len(states_NHD), -1).index_select(0, places.flatten())
        return taken.view(*places.shape, *states_NHD.shape[1:]).transpose(1, 2)

    def scaled(queries: torch.Tensor, places: torch.Tensor, **mask: Any) -> torch.Tensor:
        keys, values = take(key, places), take(value, places)
        grouped = queries.shape[1] != keys.shape[1]
        output = F.scaled_dot_product_attention(queries, keys, values, scale=scale, enable_gqa=grouped, **mask)
        return output.transpose(1, 2)

    prompts_GPHD = scaled(take(query, rows.prompt_places_GP), rows.prompt_places_GP, is_causal=True)
    responses_BTHD = scaled(take(query, rows.response_places_BT), rows.key_places_BL, attn_mask=rows.key_bias_B1TL.to(query.dtype))
    return torch.cat([prompts_GPHD[rows.prompt_valid_GP], responses_BTHD[rows.response_valid_BT]])


def attend_flash(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    lengths: FlashLengths,
    scale: float | None,
    kernel: Callable[..., Any] = varlen_attn,
) -> torch.Tensor:
    """The same without padding. The kernel's causal window ends at each row's last key, as responses after their prompt need it."""
    prompt_tokens = lengths.prompt_tokens
    key, value = key.to(query.dtype), value.to(query.dtype)
    options: dict[str, Any] = {"scale": scale, "window_size": (-1, 0), "enable_gqa": query.shape[1] != key.shape[1]}
    starts, longest = lengths.prompts_G1, lengths.longest_prompt
    prompts = kernel(query[:prompt_tokens], key[:prompt_tokens], value[:prompt_tokens], starts, starts, longest, longest, **options)
    keys, values = key.index_select(0, lengths.key_places), value.index_select(0, lengths.key_places)
    ends = (lengths.responses_B1, lengths.keys_B1, lengths.longest_response, lengths.longest_row)
    return torch.cat([prompts, kernel(query[prompt_tokens:], keys, values, *ends, **options)])


AttentionInterface.register(NAME, attend)


def _number_places(valid: torch.Tensor, start: int) -> torch.Tensor:
    """Numbers the valid places row by row from ``start``; 0 elsewhere."""
    places = torch.zeros(valid.shape, dtype=torch.long, device=valid.device)
    places[valid] = torch.arange(start, start + int(valid.sum()), device=valid.device)
    return places


def _columns(valid: torch.Tensor) -> torch.Tensor:
    """Column of each valid place, row by row."""
    return torch.arange(valid.shape[1], device=valid.device).expand(valid.shape)[valid]


def _running(lengths: torch.Tensor) -> torch.Tensor:
    """Running sums from 0, int32."""
    return F.pad(lengths.cumsum(0), (1, 0)).int()


def _bias(prompt_valid_BP: torch.Tensor, width: int) -> torch.Tensor:
    """What the responses see: their prompt whole, themselves up to each token; shape (B, 1, T, P + T)."""
    sees_prompt_BTP = prompt_valid_BP[:, None, :].expand(-1, width, -1)
    sees_self_BTT = torch.ones(width, width, dtype=torch.bool, device=prompt_valid_BP.device).tril().expand(len(prompt_valid_BP), -1, -1)
    hidden_BTL = ~torch.cat([sees_prompt_BTP, sees_self_BTT], dim=2)
    return torch.zeros(hidden_BTL.shape, device=hidden_BTL.device).masked_fill_(hidden_BTL, -torch.inf)[:, None]
