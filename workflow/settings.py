"""Settings of the language folder: the strict base of all settings, task sets, the worker LLM."""

from pathlib import Path
from typing import Annotated, ClassVar, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field

T = TypeVar("T")
MAY_CHANGE = "a resumed run may change it"
MayChange = Annotated[T, MAY_CHANGE]
"""The type of a setting that changes how a run is done or how long, not what it computes."""


class Settings(BaseModel):
    """Base of every settings class: unknown names are refused, values do not change after start."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class HubSettings(Settings):
    """How the rows of ``tasks.name=hub`` become problems. A column without a name is not read."""

    COLUMNS: ClassVar = ("query", "answer", "tests", "public_tests", "test_setup", "entry_point")

    query: str = ""
    """Column with the text of the problem."""
    answer: str = ""
    """Column with the right answer: the reference, and the test where ``tests`` has no name."""
    answer_pattern: str = ""
    """Regular expression that finds the answer in that column, in its first group where it has one; empty: all of the column."""
    tests: str = ""
    """Column with the hidden tests, a text or a list of texts."""
    public_tests: str = ""
    """Column with tests that workflows may run, a text or a list of texts."""
    test_setup: str = ""
    """Column with code that runs before the tests."""
    entry_point: str = ""
    """Column with the name of the function that a solution defines."""
    verifier: str = "number"
    """What judges the answers: a registered name, or ``module:name``."""
    config: str = ""
    """Configuration of the set, where it has several."""
    split: str = "train"
    """Split to train on; validation and test problems are cut from it where the next two are empty."""
    validation_split: str = ""
    """Split of the validation problems; empty: they are cut from ``split``."""
    test_split: str = ""
    """Split of the test problems; empty: they are cut from ``split``."""


class TaskSettings(Settings):
    """Which problems to train and evaluate on."""

    name: str = "jsonl"
    """Task set: a registered name, or ``module:name`` of something that makes Problems. ``jsonl``: a file in our own schema; ``hub``: any
    set of the hub, by named columns; ``bigcodebench`` asks with docstrings, ``bigcodebench_instruct`` in natural language."""
    path: str | None = None
    """File to read (a published set: its original file, plain or .gz; ``jsonl``: our own schema; ``hub``: a name like owner/set, a folder
    or a JSONL file). None: the public home of the set."""
    hub: HubSettings = HubSettings()
    """How the rows of a set of the hub become problems."""
    libraries: tuple[str, ...] = ()
    """Packages beyond the standard library that problems of BigCodeBench may need; ``sandbox.libraries`` must hold them."""
    since: str | None = Field(default=None, pattern=r"^\d{4}-\d\d-\d\d$")
    """Of LiveCodeBench: date of the first contest, for example 2024-08-01, so that no model in the run has seen its problems."""
    until: str | None = Field(default=None, pattern=r"^\d{4}-\d\d-\d\d$")
    """Date of the last contest."""
    splits: Literal["seeded", "aflow"] = "seeded"
    """How a file set is split: ``seeded``, at random by ``seed``; ``aflow``, with the test problems of AFlow and FlowReasoner
    (HumanEval, MBPP, GSM8K; in a mixed file by the problems' ids), validation from AFlow's validation problems, training on the rest;
    problems of other sets at random."""
    train_size: int = Field(default=4096, ge=1)
    """Problems to draw training batches from (some sets generate them; file sets are split)."""
    validation_size: int = Field(default=240, ge=1)
    """Held-out problems for choosing the best fixed workflow and the best reference per level."""
    test_size: int = Field(default=240, ge=1)
    """Held-out problems for the final table."""
    seed: int = 0
    """Seed of the procedural set and of the split of a file set."""

    @property
    def file(self) -> Path:
        """``path`` as a path of this machine."""
        return Path(self.path or "").expanduser()


class WorkerSettings(Settings):
    """The worker LLM: who answers, and how it is asked."""

    section: ClassVar[str] = "worker"
    """What messages call these settings."""
    provider: MayChange[str] = "endpoint"
    """``endpoint``: the OpenAI-compatible server at ``base_url``; another registered name: what it starts with the run; or ``module:name``
    of a worker or a provider of your own (``workflow.worker.providers``)."""
    base_url: MayChange[str | None] = None
    """Endpoint, for example ``https://api.openai.com/v1``; None: the provider knows its own."""
    model: str = ""
    """Model name sent with each request."""
    api_key_env: MayChange[str] = "OPENAI_API_KEY"
    """Environment variable that holds the key; read only in the process that talks to the endpoint."""
    temperature: float = Field(default=0.7, ge=0.0, le=2.0)
    """Sampling temperature of operator calls."""
    max_tokens: int = Field(default=4096, ge=1)
    """Completion tokens a call may use; a reasoning model's thoughts count."""
    timeout_s: MayChange[float] = Field(default=180.0, gt=0)
    """Deadline of one HTTP request."""
    max_retries: MayChange[int] = Field(default=5, ge=0)
    """Further tries after a failed request, with exponential backoff and jitter."""
    max_concurrency: MayChange[int] = Field(default=64, ge=1)
    """Requests in flight at once from one process."""
    prompt_dollars_per_million: float = Field(default=0.15, ge=0)
    """Price of prompt tokens."""
    completion_dollars_per_million: float = Field(default=0.60, ge=0)
    """Price of completion tokens."""
    cache_entries: MayChange[int] = Field(default=200_000, ge=0)
    """Replies kept in memory by one process, keyed by model, messages, sampling parameters, seed and ordinal; 0: none."""


class TeacherSettings(WorkerSettings):
    """The same of the teacher, whose settings are those of ``distil``."""

    section: ClassVar[str] = "distil"


class JudgeSettings(WorkerSettings):
    """The LLM that judges answers which no test can (verifiers ``rubric`` and ``pairwise``). Without a model the run's worker judges, which
    favours its own answers: name a stronger one."""

    section: ClassVar[str] = "judge"
    timeout_s: MayChange[float] = Field(default=60.0, gt=0)
    """Deadline of one HTTP request."""


class LatencySettings(Settings):
    """How long the simulated worker takes to answer: lognormal, slept for real."""

    mean_s: float = Field(default=0.0, ge=0)
    """Mean latency of one call; 0: answers at once."""
    sigma: float = Field(default=0.6, ge=0)
    """Standard deviation of the logarithm: the heavier the larger."""


class FaultSettings(Settings):
    """Share of requests that the simulated worker spoils in each way; all off by default."""

    http_429: float = Field(default=0.0, ge=0, le=1)
    http_500: float = Field(default=0.0, ge=0, le=1)
    hang: float = Field(default=0.0, ge=0, le=1)
    truncated_json: float = Field(default=0.0, ge=0, le=1)
    dropped_connection: float = Field(default=0.0, ge=0, le=1)


class SimulatedWorkerSettings(Settings):
    """Skill of the simulated worker by level 1..6. Higher levels use the last value."""

    seed: int = 0
    host: MayChange[str | None] = None
    """Address that it listens on; None: 127.0.0.1, and on a cluster the address of the driver's node, which other nodes reach."""
    port: MayChange[int] = Field(default=0, ge=0, le=65535)
    """0: any free port."""
    solve: tuple[float, ...] = (0.97, 0.88, 0.66, 0.42, 0.27, 0.16)
    problem_shift_sigma: float = Field(default=0.6, ge=0)
    """Standard deviation of a per-problem shift in the logit of ``solve``."""
    favourite_misreading: float = Field(default=0.3, ge=0, le=1)
    """Where not solved: chance of the problem's own favourite wrong program (voting cannot remove it; fixing is half as likely)."""
    review_finds: tuple[float, ...] = (0.90, 0.87, 0.84, 0.80, 0.77, 0.74)
    review_false_alarm: float = Field(default=0.25, ge=0, le=1)
    false_alarm_breaks: float = Field(default=0.5, ge=0, le=1)
    """Chance that acting on a false alarm breaks right code."""
    revise_with_test: tuple[float, ...] = (0.85, 0.82, 0.76, 0.70, 0.64, 0.58)
    revise_with_review: tuple[float, ...] = (0.82, 0.78, 0.74, 0.70, 0.66, 0.62)
    revise_blind: float = Field(default=0.06, ge=0, le=1)
    teacher_sensible: float = Field(default=0.15, ge=0, le=1)
    """Share of teacher traces whose workflow fits the problem."""
    teacher_habit: float = Field(default=0.35, ge=0, le=1)
    """Share of teacher traces with the teacher's habitual workflow, whatever the problem; what remains is random."""
    latency: MayChange[LatencySettings] = LatencySettings()
    faults: MayChange[FaultSettings] = FaultSettings()
