"""The terms of the reward, each a pure function of what an attempt was and did. Unweighted.

The paper (section 3.3) names three: performance (pass rate), complexity (from the AST) and diversity (distinctness ratio);
their formulas are unpublished, so these are ours. Calls, cost and latency are what running a workflow takes.
"""

from collections import Counter
from collections.abc import Sequence

from reward.settings import RewardSettings
from sandbox.records import Run


def performance(run: Run) -> float:
    """Share of hidden tests passed, in [0, 1]; 0 where there was no answer to judge."""
    return run.verdict.performance if run.verdict is not None else 0.0


def complexity(units: int, settings: RewardSettings) -> float:
    """AST units beyond the free ones, over the scale, clipped to [0, ``complexity_max``]."""
    beyond = (units - settings.complexity_free_units) / settings.complexity_scale_units
    return min(max(beyond, 0.0), settings.complexity_max)


def diversity(fingerprints: Sequence[str | None]) -> list[float]:
    """Each attempt's share in the distinctness of its group, in (0, 1]; 0 for an attempt without a workflow.

    An attempt that shares its workflow with ``n - 1`` siblings gets ``1 / n``, so that the mean over attempts with a
    workflow is the distinctness ratio, distinct workflows over workflows.

    Args:
        fingerprints: one per attempt; None where there is no workflow.
    """
    counts = Counter(fingerprints)
    return [0.0 if fingerprint is None else 1.0 / counts[fingerprint] for fingerprint in fingerprints]


def calls(runs: Sequence[Run], settings: RewardSettings) -> float:
    """Worker calls of all rounds beyond the first call, at least 0; an execution of tests counts ``test_run_calls``."""
    return max(sum(run.execution.worker_calls + settings.test_run_calls * run.execution.test_runs for run in runs) - 1.0, 0.0)


def cost(runs: Sequence[Run]) -> float:
    """Dollars of worker tokens, all rounds together."""
    return sum(run.execution.cost_dollars for run in runs)


def latency(runs: Sequence[Run]) -> float:
    """Seconds of wall time of the workflows, one round after the other."""
    return sum(run.execution.wall_s for run in runs)
