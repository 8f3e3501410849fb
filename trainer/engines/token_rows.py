"""Rows of tokens: what a learner is given, padded on the right, with the loss mask of each response."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch


@dataclass(frozen=True, slots=True)
class TokenRows:
    """B rows of a prompt and a response. P and T are the longest prompt and the longest response."""

    prompt_ids_BP: torch.Tensor
    prompt_lengths_B: torch.Tensor
    response_ids_BT: torch.Tensor
    response_lengths_B: torch.Tensor
    loss_mask_BT: torch.Tensor
    """1 on the response tokens that the loss counts, else 0."""

    def __len__(self) -> int:
        return len(self.prompt_lengths_B)

    @property
    def lengths_B(self) -> torch.Tensor:
        """Tokens of each row."""
        return self.prompt_lengths_B + self.response_lengths_B

    @staticmethod
    def of(pairs: Sequence[tuple[Sequence[int], Sequence[int]]], masks: Sequence[Sequence[int]] | None = None) -> "TokenRows":
        """Rows of (prompt ids, response ids).

        Args:
            masks: 1 for each response token that the loss counts; None: all of them.

        Raises:
            ValueError: no rows, or a row with an empty prompt or response.
        """
        if not pairs:
            raise ValueError("A batch needs at least one row.")
        for row, (prompt, response) in enumerate(pairs):
            if not prompt or not response:
                raise ValueError(f"Row {row} has {len(prompt)} prompt and {len(response)} response tokens: both need at least one.")
        prompt_lengths_B = torch.tensor([len(prompt) for prompt, _ in pairs])
        response_lengths_B = torch.tensor([len(response) for _, response in pairs])
        response_ids_BT = pad([response for _, response in pairs])
        return TokenRows(
            prompt_ids_BP=pad([prompt for prompt, _ in pairs]),
            prompt_lengths_B=prompt_lengths_B,
            response_ids_BT=response_ids_BT,
            response_lengths_B=response_lengths_B,
            loss_mask_BT=within(response_lengths_B, response_ids_BT.shape[1]).long() if masks is None else pad(masks),
        )

    def select(self, index: torch.Tensor) -> "TokenRows":
        """The rows at ``index``, padded as they are."""
        return TokenRows(
            self.prompt_ids_BP[index],
            self.prompt_lengths_B[index],
            self.response_ids_BT[index],
            self.response_lengths_B[index],
            self.loss_mask_BT[index],
        )


def pad(rows: Sequence[Sequence[int]] | Sequence[Sequence[float]], dtype: torch.dtype = torch.long) -> torch.Tensor:
    """Rows of numbers as one tensor (B, longest), filled with 0 on the right."""
    padded = torch.zeros(len(rows), max(map(len, rows)), dtype=dtype)
    for target, row in zip(padded, rows, strict=True):
        target[: len(row)] = torch.tensor(row, dtype=dtype)
    return padded


def within(lengths_B: torch.Tensor, width: int) -> torch.Tensor:
    """True at the first ``lengths_B`` places of each row, shape (B, width)."""
    return torch.arange(width, device=lengths_B.device)[None, :] < lengths_B[:, None]
