"""The query with its tests: what a task set is made of."""

from dataclasses import dataclass, replace

from workflow.pickled import restore


@dataclass(frozen=True, slots=True)
class Problem:
    """One query and how its answers are judged."""

    id: str
    """Unique in its task set and stable across runs, for example ``HumanEval/3``."""
    query: str
    """The text that the meta-agent and the workers read."""
    entry_point: str
    """Name of the function that a solution defines; empty where there is none."""
    public_tests: tuple[str, ...]
    """Tests that a workflow may run and whose feedback it may read; possibly none."""
    hidden_tests: tuple[str, ...]
    """Tests that only the judge sees. They run in order in one namespace; each counts once."""
    test_setup: str = ""
    """Trusted code that the judge runs before the tests (imports, helpers); counts as no test."""
    reference: str | None = None
    """A right solution, for the audit and the simulated worker; never shown to policy or workflow."""
    level: int | None = None
    """Difficulty where the task set knows it."""
    verifier: str = "function"
    """What judges the answers: a name of ``workflow.verifiers.VERIFIERS``, or ``module:name``."""
    source: str = ""
    """Name of the benchmark, for example ``humaneval``; where the set gives none, the name of its file or of the set."""
    weight: float = 1.0
    """How often it is drawn in training, against one of weight 1."""

    __setstate__ = restore

    @property
    def tests(self) -> tuple[str, ...]:
        """All of its tests, those that are public first: what a published solve rate counts."""
        return (*self.public_tests, *self.hidden_tests)

    @property
    def has_examples(self) -> bool:
        """True where a workflow has public tests to run."""
        return bool(self.public_tests)

    def public_view(self) -> "Problem":
        """The same problem without anything that the policy, a workflow or a worker may not see."""
        return replace(self, hidden_tests=(), reference=None)
