"""The Score record: what one attempt is worth, term by term."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Score:
    """``total = sum_k weight_k * term_k``; where nothing was judged, the floor and what the other terms cost. Terms are unweighted."""

    total: float
    performance: float
    """Share of hidden tests passed, mean over the attempt's runs, in [0, 1]."""
    complexity: float
    """From the AST; 0 for a single call, rising to ``complexity_max``."""
    diversity: float
    """This attempt's share of the distinct workflows of its group, in (0, 1]."""
    calls: float
    """Worker calls beyond the first, mean over runs; a test run counts ``test_run_calls``."""
    cost: float
    """Dollars of worker tokens, mean over runs."""
    latency: float
    """Seconds of wall time, mean over runs."""
    floored: bool
    """True where the floor stands for the performance of any run; elsewhere ``total`` is exactly the weighted sum of these terms."""
