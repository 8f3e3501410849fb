"""A term of the reward: how much the policy thinks aloud."""

from reward.attempt import Repeat
from reward.terms import TERMS


@TERMS.register("reasoning_words")
def reasoning_words(repeat: Repeat) -> float:
    """Words that the policy wrote before its workflows, all rounds together; 0 for a fixed workflow."""
    return float(sum(len(text.partition("```")[0].split()) for text in repeat.attempt.texts))
