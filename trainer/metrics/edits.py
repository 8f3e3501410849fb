"""Metrics of counterfactual runs (``trainer.grpo.credit=span``): what each operator is worth, and what it took to learn that."""

from collections.abc import Sequence
from statistics import fmean

from rollout.records import Group

WORTH, EDITED = "worth/", "edited/"
"""``worth/OPERATOR``: mean difference of reward over the step's edits of that operator; ``edited/OPERATOR``: how many those were."""


def edit_metrics(groups: Sequence[Group]) -> dict[str, float]:
    """``worth/*`` and ``edited/*`` by operator, ``edit/*`` in all; nothing where no group has edits.

    ``edit/lost`` counts edits whose runs a machine failed, ``edit/unplaced`` episodes in which the tokens of an edited call are not
    known, ``edit/worker_calls`` the calls of all edited runs and ``edit/repeated_calls`` those that the cache could answer.
    """
    edits = [edit for group in groups for edit in group.edits]
    if not edits:
        return {}
    worth: dict[str, list[float]] = {}
    for edit in edits:
        if edit.difference is not None:
            worth.setdefault(edit.operator, []).append(edit.difference)
    return {
        "edit/all": float(len(edits)),
        "edit/lost": float(sum(edit.difference is None for edit in edits)),
        "edit/unplaced": float(sum(edit.unplaced for edit in edits)),
        "edit/worker_calls": float(sum(edit.worker_calls for edit in edits)),
        "edit/repeated_calls": float(sum(edit.repeated_calls for edit in edits)),
        **{f"{WORTH}{name}": fmean(values) for name, values in worth.items()},
        **{f"{EDITED}{name}": float(len(values)) for name, values in worth.items()},
    }
