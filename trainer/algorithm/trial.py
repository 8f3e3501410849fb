"""Tries a user's advantage estimator and policy loss on a few made-up responses, before anything is paid for."""

from collections.abc import Callable, Iterator
from typing import Any

import torch

from trainer.algorithm.advantage import advantages
from trainer.algorithm.losses import actor_config
from trainer.algorithm.names import ESTIMATORS, POLICY_LOSSES, is_own_estimator, is_own_loss
from trainer.settings import GRPOSettings

LENGTHS = (5, 2, 6, 3)
MASK_BT = (torch.arange(max(LENGTHS))[None] < torch.tensor(LENGTHS)[:, None]).long()
REWARDS = (1.0, 0.0, 0.4, 0.7)
WHOLE = [[[0, 1, 2, 3]]]
CUTS = ([[[0], [1, 2, 3]]], [[[0, 1]], [[2], [3]]])
"""Ranks of micro-batches of rows."""


def problems_of_own(settings: GRPOSettings) -> Iterator[str]:
    """A sentence where an estimator or a loss of the user's own does not work; nothing where both come with the product."""
    if is_own_estimator(settings.advantage):
        yield from _try_one("advantage", settings.advantage, lambda: _try_estimator(settings))
    if is_own_loss(settings.policy_loss):
        yield from _try_one("policy_loss", settings.policy_loss, lambda: _try_loss(settings))


def _try_one(setting: str, name: str, run: Callable[[], str]) -> Iterator[str]:
    try:
        wrong = run()
    except Exception as error:  # a function of the user's may raise anything
        wrong = f"does not work on {len(LENGTHS)} made-up responses ({type(error).__name__}: {error}): give it the signature of verl's"
    if wrong:
        yield f"trainer.grpo.{setting}={name} {wrong}."


def _try_estimator(settings: GRPOSettings) -> str:
    ESTIMATORS.find(settings.advantage)
    found_BT = advantages(torch.tensor(REWARDS), [0, 0, 1, 1], MASK_BT, settings)
    return "" if torch.isfinite(found_BT).all() else "gives advantages that are not finite"


def _try_loss(settings: GRPOSettings) -> str:
    whole_BT = _gradient(settings, WHOLE)
    if not torch.isfinite(whole_BT).all():
        return "has a gradient that is not finite"
    if all(torch.allclose(_gradient(settings, cut), whole_BT, rtol=1e-3, atol=1e-6) for cut in CUTS):
        return ""
    return (
        "has another gradient when a mini-batch is cut into micro-batches or over ranks, so the result would depend on "
        "learner.micro_batch_tokens and learner.ranks: aggregate the loss of tokens by "
        "verl.trainer.ppo.core_algos.agg_loss(loss_mat, response_mask, loss_agg_mode, **config.global_batch_info)"
    )


def _gradient(settings: GRPOSettings, ranks: list[list[list[int]]]) -> torch.Tensor:
    """Gradient on the log-probabilities (B, T) of a mini-batch whose rows lie on ranks in micro-batches."""
    generator = torch.Generator().manual_seed(0)
    old_BT = -2 * torch.rand(MASK_BT.shape, generator=generator)
    advantages_BT = torch.randn(len(LENGTHS), 1, generator=generator) * MASK_BT
    new_BT = (old_BT + 0.3 * torch.randn(MASK_BT.shape, generator=generator)).requires_grad_()
    config = actor_config(settings, max(LENGTHS))
    config.global_batch_info.update(
        dp_size=len(ranks),
        batch_num_tokens=sum(LENGTHS),
        global_batch_size=len(LENGTHS),
        loss_scale_factor=config.loss_scale_factor,
    )
    function: Any = POLICY_LOSSES.find(settings.policy_loss)
    for rows in (micro_batch for rank in ranks for micro_batch in rank):
        loss, _ = function(
            old_log_prob=old_BT[rows],
            log_prob=new_BT[rows],
            advantages=advantages_BT[rows],
            response_mask=MASK_BT[rows].bool(),
            loss_agg_mode=settings.loss_aggregation,
            config=config,
            rollout_is_weights=None if settings.rollout_is == "none" else torch.ones(len(rows), max(LENGTHS)),
        )
        (loss / len(ranks)).backward()
    assert new_BT.grad is not None, "the loss does not depend on log_prob"
    return new_BT.grad
