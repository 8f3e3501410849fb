"""Packed attention on CPU in which siblings share their prompt.

The episodes of a group differ only in their responses. Here each distinct prompt is computed once and every response
attends to it and to itself; tokens of all rows lie in one sequence without padding. Results and gradients are those
of separate rows, for about half of the tokens where responses are as long as prompts. Registered with transformers
as the attention implementation ``shared_prompt``, so it serves every architecture that passes its keyword arguments on.
"""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from transformers import AttentionInterface

from trainer.token_rows import within

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
    key_bias_B1TL: torch.Tensor
    """0 where a response token may look, else -inf."""
    sources: torch.Tensor
    """For each response token, in row order, the token that predicts it."""
    targets: torch.Tensor
    """Id of each response token, in row order."""


def pack(prompts: Any, responses: Any) -> PackedRows:
    """Lays rows out in one sequence.

    Args:
        prompts: jagged ids (B, prompt length).
        responses: jagged ids (B, response length), none empty.
    """
    device = responses.device
    row_prompts = [tuple(prompt.tolist()) for prompt in prompts.unbind()]
    distinct = {prompt: number for number, prompt in enumerate(dict.fromkeys(row_prompts))}
    group_B = torch.tensor([distinct[prompt] for prompt in row_prompts], device=device)
    prompt_ids = torch.tensor([token for prompt in distinct for token in prompt], device=device)
    prompt_lengths_G = torch.tensor([len(prompt) for prompt in distinct], device=device)
    response_lengths_B = responses.offsets().diff()
    width = int(response_lengths_B.max())
    prompt_valid_GP = within(prompt_lengths_G, int(prompt_lengths_G.max()))
    response_valid_BT = within(response_lengths_B, width)
    prompt_places_GP = _numbered(prompt_valid_GP, start=0)
    response_places_BT = _numbered(response_valid_BT, start=len(prompt_ids))
    last_prompt_B1 = prompt_places_GP.gather(1, prompt_lengths_G[:, None] - 1)[group_B]
    response_positions_BT = prompt_lengths_G[group_B][:, None] + torch.arange(width, device=device)
    sees_prompt_BTP = prompt_valid_GP[group_B][:, None, :].expand(-1, width, -1)
    sees_self_BTT = torch.ones(width, width, dtype=torch.bool, device=device).tril().expand(len(group_B), -1, -1)
    hidden_BTL = ~torch.cat([sees_prompt_BTP, sees_self_BTT], dim=2)
    return PackedRows(
        ids_1N=torch.cat([prompt_ids, responses.values()])[None],
        positions_1N=torch.cat([_columns(prompt_valid_GP), response_positions_BT[response_valid_BT]])[None],
        prompt_places_GP=prompt_places_GP,
        prompt_valid_GP=prompt_valid_GP,
        response_places_BT=response_places_BT,
        response_valid_BT=response_valid_BT,
        key_places_BL=torch.cat([prompt_places_GP[group_B], response_places_BT], dim=1),
        key_bias_B1TL=torch.zeros(hidden_BTL.shape, device=device).masked_fill_(hidden_BTL, -torch.inf)[:, None],
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
        ValueError: rows are longer than the model's sliding window.
    """
    assert packed_rows is not None, "the engine passes packed_rows with every forward call"
    rows = packed_rows
    if sliding_window is not None and rows.key_places_BL.shape[1] > sliding_window:
        raise ValueError(f"Rows of {rows.key_places_BL.shape[1]} tokens exceed the model's sliding window of {sliding_window} on CPU.")
    query_NHD, key_NHD, value_NHD = (states[0].transpose(0, 1) for states in (query, key, value))

    def take(states_NHD: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
        taken = states_NHD.reshape(len(states_NHD), -1).index_select(0, places.flatten())
        return taken.view(*places.shape, *states_NHD.shape[1:]).transpose(1, 2)

    def scaled(query: torch.Tensor, places: torch.Tensor, **mask: Any) -> torch.Tensor:
        keys, values = take(key_NHD, places), take(value_NHD, places)
        grouped = query.shape[1] != keys.shape[1]
        output = F.scaled_dot_product_attention(query, keys, values, dropout_p=dropout, scale=scaling, enable_gqa=grouped, **mask)
        return output.transpose(1, 2)

    prompts_GPHD = scaled(take(query_NHD, rows.prompt_places_GP), rows.prompt_places_GP, is_causal=True)
    responses_BTHD = scaled(take(query_NHD, rows.response_places_BT), rows.key_places_BL, attn_mask=rows.key_bias_B1TL.to(query.dtype))
    return torch.cat([prompts_GPHD[rows.prompt_valid_GP], responses_BTHD[rows.response_valid_BT]])[None], None


AttentionInterface.register(NAME, attend)


def _numbered(valid: torch.Tensor, start: int) -> torch.Tensor:
    """Numbers the valid places row by row from ``start``; 0 elsewhere."""
    places = torch.zeros(valid.shape, dtype=torch.long, device=valid.device)
    places[valid] = torch.arange(start, start + int(valid.sum()), device=valid.device)
    return places


def _columns(valid: torch.Tensor) -> torch.Tensor:
    """Column of each valid place, row by row."""
    return torch.arange(valid.shape[1], device=valid.device).expand(valid.shape)[valid]
