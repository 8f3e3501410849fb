"""The Score record: what one attempt is worth, term by term."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

EARLIER_TERMS = ("performance", "complexity", "diversity", "calls", "cost", "latency")


@dataclass(frozen=True, slots=True)
class Score:
    """``total = sum_k weight_k * term_k``; where nothing was judged, the floor and what the other terms cost."""

    total: float
    terms: Mapping[str, float]
    """Every term by its name (``reward.terms``), unweighted, mean over the attempt's runs."""
    floored: bool
    """True where the floor stands for the performance of any run; elsewhere ``total`` is exactly the weighted sum of the terms."""

    def __setstate__(self, state: Sequence[Any]) -> None:
        """Unpickles; in checkpoints of earlier versions each term was a field of its own."""
        total, *terms, floored = state
        values = (total, terms[0] if len(terms) == 1 else dict(zip(EARLIER_TERMS, terms, strict=True)), floored)
        for name, value in zip(self.__slots__, values, strict=True):
            object.__setattr__(self, name, value)


def mean_terms(measured: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The mean of each term, over those that have it: one that came with a resume is not in what was collected before."""
    names = dict.fromkeys(name for terms in measured for name in terms)
    return {name: fmean(terms[name] for terms in measured if name in terms) for name in names}
