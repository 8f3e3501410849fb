"""How one attempt at a query ended, and the error where machines end everything.

Everything the policy or the worker LLM causes is a value here and earns a reward.
``INFRA_ERROR`` is the one value that says "we do not know": such episodes are retried
and, if that does not help, masked out of the loss and counted, never scored 0.
"""

from enum import StrEnum


class RunFailedError(RuntimeError):
    """Machines ended the run or a command: a whole sentence with the reason and the remedy."""


class Outcome(StrEnum):
    """One enum from the completion to the verdict; each stage uses the values it can cause."""

    PASSED = "passed"
    """The judge ran every hidden test and all passed."""
    WRONG_ANSWER = "wrong_answer"
    """The judge ran and at least one hidden test failed."""
    ANSWERED = "answered"
    """The workflow ran to its end and returned a text (only in an Execution, before judging)."""
    NO_WORKFLOW = "no_workflow"
    """The completion holds no ``class Workflow``."""
    SYNTAX_ERROR = "syntax_error"
    """The workflow's source is not Python."""
    FORBIDDEN = "forbidden"
    """The static checks refuse a construct in the workflow."""
    CRASHED = "crashed"
    """The workflow raised, died, or returned something that is not a text."""
    TIMED_OUT = "timed_out"
    """The workflow outlived its deadline."""
    BUDGET_EXCEEDED = "budget_exceeded"
    """The workflow ended on an exhausted call or token budget."""
    INFRA_ERROR = "infra_error"
    """A machine, an endpoint or an actor failed; the attempt says nothing about the policy."""

    @property
    def is_refusal(self) -> bool:
        """True where no workflow could be run at all."""
        return self in (Outcome.NO_WORKFLOW, Outcome.SYNTAX_ERROR, Outcome.FORBIDDEN)
