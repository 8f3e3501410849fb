"""Settings of the policy model and of asking it."""

from typing import Any, Literal

from pydantic import Field

from workflow.settings import MayChange, Settings, TeacherSettings


class ModelSettings(Settings):
    """The policy (meta-agent)."""

    path: str = ""
    """A Hugging Face folder or hub id; or the name, or ``module:name``, of what makes a policy in the run folder (``rollout.policies``)."""
    dtype: Literal["float32", "bfloat16"] = "bfloat16"
    max_prompt_tokens: int = Field(default=3072, ge=8)
    max_response_tokens: int = Field(default=4096, ge=8)
    meta_prompt: str = "full"
    """What the policy reads. ``brief``: the query alone; ``full``: instructions, operator catalogue and query; or the path of a
    template file of your own (``rollout/prompt/templates`` has these two), whose text is kept in the run's config.yaml."""


class RolloutSettings(Settings):
    """Sampling groups and running them."""

    engine: str = "vllm"
    """What samples: ``vllm``, or one of your own (``rollout.engines.interface``), registered or named as ``module:name``."""
    engines: MayChange[int] = Field(default=1, ge=1)
    """Engines, each an actor of its own."""
    cpus_per_engine: float = Field(default=0.5, ge=0)
    """Logical CPUs that Ray sets aside for each engine on CPU."""
    tensor_parallel: MayChange[int] = Field(default=1, ge=1)
    """GPUs of one engine."""
    rounds: int = Field(default=1, ge=1, le=10)
    """Workflows that the policy writes one after another in an episode; before each further one it reads what the public tests said."""
    max_feedback_tokens: int = Field(default=1024, ge=16)
    """Length of the feedback turn between two rounds, its chat markers included; longer feedback is cut in the middle."""
    feedback_reply_characters: int = Field(default=80, ge=0)
    """How much of each operator call's reply the feedback quotes; 0: none."""
    stop_when_settled: bool = True
    """An episode ends before its last round once its workflow answered and passed every public test."""
    judged_round: Literal["last", "best"] = "last"
    """Whose workflow is the episode's result: the last round's, or the one that passed most public tests (the latest of equals)."""
    group_size: int = Field(default=8, ge=2)
    """Completions per problem; group-relative advantages need at least 2."""
    runs_per_workflow: int = Field(default=1, ge=1)
    """Executions of each workflow, with different worker seeds; the score is their mean."""
    share_runs: bool = True
    """Siblings with the same AST share their executions (they would see the same worker samples anyway). False: each meets others."""
    temperature: float = Field(default=1.0, ge=0)
    top_p: float = Field(default=1.0, gt=0, le=1)
    request_timeout_s: MayChange[float] = Field(default=300.0, gt=0)
    """Deadline of one group's sampling."""
    engine_args: MayChange[dict[str, Any]] = {}
    """The engine's own, for ``vllm`` its AsyncEngineArgs; passed on untouched."""
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


DTYPES = {"half": "float16", "float": "float32"}
"""Other names that engines give types."""


def weights_dtype(model: ModelSettings, rollout: RolloutSettings) -> str | None:
    """torch's name for the type in which an engine holds weights; None where it is left to choose it."""
    asked = rollout.engine_args.get("dtype", model.dtype)
    name = DTYPES.get(asked, asked)
    return name if name in ("float32", "bfloat16", "float16") else None


class DistilSettings(Settings):
    """Asking the teacher for traces."""

    traces: int = Field(default=2000, ge=1)
    """SFT rows to collect: traces that ``weighting`` and ``per_problem`` keep and that fit the policy's turns."""
    max_requests: int = Field(default=6000, ge=1)
    """Queries put to the teacher after which distillation stops with what it has; each takes up to ``rounds`` requests."""
    rounds: int = Field(default=10, ge=1, le=10)
    """Workflows that the teacher writes one after another for a query, with the policy's feedback between them; as in the policy's
    episodes (``rollout.stop_when_settled``) the last one is that which passes every public test."""
    keep_round: Literal["last", "best"] = "last"
    """Whose workflow is the result of a query, as ``rollout.judged_round``; rounds after it are not learnt."""
    per_problem: int = Field(default=4, ge=1)
    """Traces of one problem that are learnt at most: those with the highest reward, so the cheapest that pass, no workflow twice."""
    weighting: Literal["passed", "exp_reward"] = "passed"
    """What is learnt. ``passed``: traces whose workflow passed, all alike. ``exp_reward``: every trace whose workflow was judged, drawn
    in proportion to exp(reward / ``tau``) (reward-weighted regression as in W4S, arXiv 2504.04785)."""
    tau: float = Field(default=0.4, gt=0)
    """Reward by which ``exp_reward`` has to be higher for a trace to be drawn e times as often."""
    rows: Literal["turns", "concatenated"] = "turns"
    """What an SFT row is. ``turns``: the conversation in up to ``rollout.rounds`` turns, as the policy will hold it, without loss on the
    feedback; reasoning of rounds before these goes before that of the first. ``concatenated``: one turn, the reasoning of all rounds
    one after another and the kept workflow (paper section 3.2)."""
    concurrency: MayChange[int] = Field(default=64, ge=1)
    provider: MayChange[str] = "endpoint"
    """Who answers, as in ``worker.provider``."""
    base_url: MayChange[str | None] = None
    """Teacher endpoint; None: the provider knows its own."""
    prompt: str | None = None
    """What the teacher reads, as ``model.meta_prompt``; None: what the policy reads."""
    model: str = ""
    api_key_env: MayChange[str] = "OPENAI_API_KEY"
    temperature: float = Field(default=0.6, ge=0, le=2.0)
    max_tokens: int = Field(default=32_768, ge=1)
    """Completion tokens of a trace; a reasoning teacher's chain of thought counts."""
    timeout_s: MayChange[float] = Field(default=1800.0, gt=0)
    """Deadline of one request; a long chain of thought takes minutes."""

    def worker(self) -> TeacherSettings:
        """The teacher as a worker that is asked."""
        same = self.model_dump(include={"provider", "base_url", "model", "api_key_env", "temperature", "max_tokens", "timeout_s"})
        return TeacherSettings(**same, max_concurrency=self.concurrency, cache_entries=0)
