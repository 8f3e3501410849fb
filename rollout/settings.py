"""Settings of the policy model and of asking it."""

from typing import Any, Literal

from pydantic import Field

from workflow.settings import MayChange, Settings


class ModelSettings(Settings):
    """The policy (meta-agent)."""

    path: str = "nano"
    """``nano`` (made on the spot), a local folder, or a Hugging Face id."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    max_prompt_tokens: int = Field(default=192, ge=8)
    max_response_tokens: int = Field(default=96, ge=8)
    meta_prompt: Literal["brief", "full"] = "brief"
    """``brief``: the query alone (nano); ``full``: instructions, operator catalogue and query."""


class RolloutSettings(Settings):
    """Sampling groups and running them."""

    engines: MayChange[int] = Field(default=1, ge=1)
    """vLLM actors."""
    cpus_per_engine: float = Field(default=0.5, ge=0)
    """Logical CPUs that Ray sets aside for each engine on CPU."""
    tensor_parallel: MayChange[int] = Field(default=1, ge=1)
    """GPUs of one engine."""
    rounds: int = Field(default=1, ge=1, le=10)
    """Workflows that the policy writes one after another in an episode; before each further one it reads what the public tests said."""
    max_feedback_tokens: int = Field(default=128, ge=16)
    """Length of the feedback turn between two rounds, its chat markers included; longer feedback is cut in the middle."""
    feedback_reply_characters: int = Field(default=80, ge=0)
    """How much of each operator call's reply the feedback quotes; 0: none."""
    stop_when_settled: bool = True
    """An episode ends before its last round once its workflow answered and passed every public test."""
    judged_round: Literal["last", "best"] = "last"
    """Whose workflow is the episode's result: the last round's, or the one that passed most public tests (the latest of equals)."""
    group_size: int = Field(default=12, ge=2)
    """Completions per problem; group-relative advantages need at least 2."""
    runs_per_workflow: int = Field(default=2, ge=1)
    """Executions of each workflow, with different worker seeds; the score is their mean."""
    share_runs: bool = True
    """Siblings with the same AST share their executions (they would see the same worker samples anyway)."""
    temperature: float = Field(default=1.0, ge=0)
    top_p: float = Field(default=1.0, gt=0, le=1)
    request_timeout_s: MayChange[float] = Field(default=300.0, gt=0)
    """Deadline of one group's sampling."""
    engine_args: MayChange[dict[str, Any]] = {}
    """Passed to vLLM's AsyncEngineArgs untouched."""
    in_flight: Literal["finish", "continue"] = "finish"
    """What an update of the weights does to completions in flight. ``finish``: it waits for them, so that no completion mixes two
    versions. ``continue``: they stop, and go on with the new weights after their keys and values were computed anew."""
    publish_bucket_mib: MayChange[float] = Field(default=256.0, gt=0)
    """Weights travel in buckets of this size (one tensor at least); two are on their way at a time."""
    weights_via: MayChange[Literal["auto", "object_store", "link"]] = "auto"
    """How buckets travel. ``object_store``: through Ray's, each engine fetches them. ``link``: the learner's first rank broadcasts them to
    all workers of all engines, by NCCL from GPU to GPU (gloo on CPU). ``auto``: link on GPUs, object_store on CPU."""
    weights_kept: MayChange[Literal["copy", "resend"]] = "copy"
    """Where a replaced engine gets the current weights from. ``copy``: from Ray's object store, which keeps the last published buckets,
    once for all engines. ``resend``, and always over a link: from the learner, which keeps nothing more; once it has moved on, the
    engine waits for the next update."""
    verify_loaded: MayChange[bool] = True
    """Reads back from each engine what it loaded. Off for layouts of weights that vLLM changes beyond recognition; the received bytes
    are checked in any case."""


def context_tokens(model: ModelSettings, rollout: RolloutSettings) -> int:
    """Tokens of the longest episode: the prompt, every round's response, the feedback between them."""
    return model.max_prompt_tokens + rollout.rounds * model.max_response_tokens + (rollout.rounds - 1) * rollout.max_feedback_tokens


class DistilSettings(Settings):
    """Asking the teacher for traces."""

    traces: int = Field(default=4000, ge=1)
    """SFT rows to collect: (query, reasoning, workflow) whose workflow passed."""
    max_requests: int = Field(default=12_000, ge=1)
    """Teacher calls after which distillation stops with what it has."""
    concurrency: MayChange[int] = Field(default=64, ge=1)
    base_url: MayChange[str | None] = None
    """Teacher endpoint; None: the simulated worker plays the teacher."""
    model: str = "simulated-teacher"
    api_key_env: MayChange[str] = "OPENAI_API_KEY"
    temperature: float = Field(default=1.0, ge=0, le=2.0)
    max_tokens: int = Field(default=4096, ge=1)
    """Completion tokens of a trace; a reasoning teacher's chain of thought counts."""
    timeout_s: MayChange[float] = Field(default=180.0, gt=0)
    """Deadline of one request; a long chain of thought takes minutes."""
