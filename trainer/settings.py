"""Settings of learning."""

from typing import Any, Literal

from pydantic import Field

from reward.settings import RewardSettings
from rollout.prompt.facts import PromptFacts, prompt_facts
from rollout.settings import DistilSettings, ModelSettings, RolloutSettings
from sandbox.settings import SandboxSettings
from trainer.cluster.settings import ClusterSettings, SweepSettings
from trainer.metrics.settings import AlarmSettings
from trainer.run.settings import CheckpointSettings, LoggerSettings
from workflow.settings import JudgeSettings, MayChange, Settings, SimulatedWorkerSettings, TaskSettings, WorkerSettings
from workflow.worker.crew import WorkerCard, name_workers


class OptimizerSettings(Settings):
    """AdamW and its schedule."""

    lr: float = Field(default=1e-6, gt=0)
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = Field(default=0.0, ge=0)
    clip_grad: float = Field(default=1.0, gt=0)
    warmup_steps: int = Field(default=10, ge=0)
    schedule: Literal["constant", "cosine"] = "constant"
    min_lr_ratio: float = Field(default=0.1, ge=0, le=1)


class LearnerSettings(Settings):
    """The verl worker group."""

    engine: Literal["fsdp2", "deepspeed"] = "fsdp2"
    ranks: int = Field(default=1, ge=1)
    """Learner processes; on GPU one GPU each."""
    nodes: MayChange[int] = Field(default=1, ge=1)
    """Machines that the ranks are spread over, the same number on each; with more than one, the run folder must be a path on storage
    that all of them mount."""
    zero_stage: int = Field(default=2, ge=1, le=3)
    """Of DeepSpeed: what the ranks share out, 1 the optimizer, 2 gradients too, 3 weights too."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """What the forward and backward pass compute in; master weights stay fp32. ``auto``: bf16 on GPU, fp32 on CPU."""
    micro_batch_tokens: MayChange[int] = Field(default=20_480, ge=64)
    """Tokens of one forward-backward pass on one rank."""
    gradient_checkpointing: MayChange[bool] = True
    lora_rank: int = Field(default=0, ge=0)
    """Rank of the LoRA adapters that alone are trained; 0: all weights are."""
    lora_alpha: int = Field(default=32, ge=1)
    """Adapters are scaled by ``lora_alpha / lora_rank``."""
    lora_targets: str | tuple[str, ...] = "all-linear"
    """Names of the layers that get an adapter."""
    offload_optimizer: MayChange[bool] = False
    """Keep the optimizer's state in main memory (GPU only)."""
    timeout_s: MayChange[float] = Field(default=3600.0, gt=0)
    """Longest that one call (an update, a checkpoint) may take before the learner counts as hung and is brought back from the last
    checkpoint."""
    threads: int = Field(default=0, ge=0)
    """Cores that one CPU rank computes with; 0: the machine's cores divided by the ranks."""
    engine_args: dict[str, Any] = {}
    """Win over ours in verl's FSDPEngineConfig or in DeepSpeed's own configuration."""


class SFTSettings(Settings):
    """Stage 2: supervised fine-tuning on the distilled traces."""

    steps: int = Field(default=400, ge=0)
    batch_size: int = Field(default=32, ge=1)
    optimizer: OptimizerSettings = OptimizerSettings(lr=1e-5, schedule="cosine", warmup_steps=20)


class GRPOSettings(Settings):
    """Stage 3: GRPO with execution feedback."""

    steps: MayChange[int] = Field(default=200, ge=0)
    problems_per_step: int = Field(default=32, ge=1)
    updates_per_step: int = Field(default=1, ge=1)
    """Mini-batches that one step's episodes are cut into."""
    advantage: str = "reinforce_plus_plus_baseline"
    """An estimator of verl's (``trainer.algorithm.names`` has the names) or one of your own with verl's signature, registered by a
    module of ``trainer.imports`` or named as ``module:name``. The default subtracts the group's mean and divides by the
    deviation over the batch's episodes. ``gdpo`` normalises each term of the reward in its group by itself, before it weighs them.
    Flat groups have advantage 0 under each of them."""
    credit: Literal["episode", "round", "span"] = "episode"
    """Which tokens earn what (``trainer.algorithm.credit``). ``episode``: all of an episode its advantage. ``round``: those of each round
    the advantage of that round among the siblings that have one; takes ``rollout.rounds`` above 1. ``span``: as ``episode``, and those
    of an operator call in addition what the reward loses without it, for ``span_edits`` calls of a group."""
    span_edits: int = Field(default=4, ge=1)
    """Under ``credit=span``: operator calls of a group's workflows, chosen by chance, without which their workflow is run again, as often
    as ``rollout.runs_per_workflow``. These runs cost what they cost and count in ``max_dollars``, never in a reward."""
    min_deviation: float = Field(default=0.05, ge=0)
    """Least deviation in units of reward that the default estimator (and ``gdpo``) divides by, so that a batch which differs by an AST unit
    is not blown up to the size of one that differs by solved problems."""
    policy_loss: str = "vanilla"
    """A policy loss of verl's (``trainer.algorithm.names`` has the names) or one of your own, as for ``advantage``; it is called for one
    micro-batch at a time, so it has to aggregate by ``agg_loss(..., **config.global_batch_info)``, as verl's do. Those mean different
    things by ``clip_low`` and ``clip_high``.
    ``vanilla`` and ``cispo`` keep a token's ratio within 1 - clip_low and 1 + clip_high; ``gspo`` a whole response's, which is a
    geometric mean and so near 1 that the values of ``vanilla`` never clip it (its paper has 3e-4 and 4e-4, and
    ``seq-mean-token-mean``). ``geo_mean`` keeps the logarithm of a token's ratio between -clip_low and clip_high (its paper has 0.4 and
    0.4). ``dppo_tv`` bounds how far a token's probability moves, ``dppo_kl`` the KL that this makes. ``gpg``, ``sapo`` and ``dro`` clip
    nothing, and ``gpg`` has no ratio: it takes every sample for one of the policy as it is. The groups of conf/algorithm have the
    values of each paper (``algorithm=gspo``)."""
    loss_args: dict[str, float] = {}
    """What else verl's losses read, by verl's names: ``clip_ratio_c`` (vanilla: the bound of dual-clip PPO, 3 where it is left out; dppo_tv
    and dppo_kl: where ratios are cut off, 20), ``tau_pos`` and ``tau_neg`` (sapo), ``dro_beta`` (dro, which needs it)."""
    clip_low: float = Field(default=0.2, gt=0)
    clip_high: float = Field(default=0.28, gt=0)
    kl_coef: float = Field(default=0.001, ge=0)
    """Weight of the KL to the SFT policy; 0: no reference policy is kept."""
    kl_in: Literal["loss", "reward"] = "loss"
    """Where the KL counts: as a term of the loss, or taken off each episode's reward, summed over its tokens, before advantages are
    computed (RLOO, arXiv 2402.14740)."""
    kl_kind: str = "k3+"
    """Estimator of the KL by verl's names. In the loss ``k2``, ``k1+`` and ``k3+`` have the gradient of the KL from policy to reference,
    and differ in the figure that is reported (arXiv 2510.01555); ``k3``, GRPO's own, has that of the KL from reference to policy. In the
    reward ``k1`` has the right gradient, and ``k2`` and ``k3`` may be chosen."""
    entropy_coef: float = Field(default=0.0, ge=0)
    loss_aggregation: str = "token-mean"
    """How the loss of tokens becomes one figure. ``seq-mean-token-sum-norm`` divides by the tokens that an episode may have at most
    (Dr. GRPO's constant): rollout.rounds x model.max_response_tokens."""
    flat_by: Literal["reward", "performance"] = "reward"
    """What the episodes of a *flat* group have in common. By ``performance`` a group that differs in costs alone is flat, too."""
    flat_tolerance: float = Field(default=1e-4, ge=0)
    """How far apart they may lie in a flat group. Where latency or dollars have a weight, rewards of equal workflows differ by noise."""
    flat_groups: Literal["drop", "keep"] = "drop"
    """What becomes of flat groups, whose advantages are 0. ``drop``: they leave the batch, and no mean over tokens or episodes counts them.
    ``keep``: they count in those means, and in the KL and the entropy of the loss."""
    refill: int = Field(default=0, ge=0)
    """Flat groups that one step may replace by further ones (DAPO's dynamic sampling)."""
    skip_flat: float = Field(default=0.0, ge=0, lt=1)
    """Probability that a problem whose last group was flat is skipped the next time, before anything is sampled: after z flat groups in
    a row 1 - (1 - skip_flat)^z, and 0.95 at most (GRESO, arXiv 2506.02177, begins with 0.5)."""
    overlong: Literal["keep", "mask", "shape"] = "keep"
    """What becomes of completions that end at ``model.max_response_tokens``. ``keep``: they are worth what their workflow is worth.
    ``mask``: their episodes carry no loss, and stay in their group's baseline. ``shape``: whatever gets near the limit loses up to 1 of
    its reward. (DAPO's overlong filtering and soft overlong punishment, arXiv 2503.14476, section 3.4.)"""
    overlong_buffer: float = Field(default=0.2, gt=0, le=1)
    """Share of ``model.max_response_tokens`` at its end over which ``shape`` takes from 0 to 1 (DAPO: 4,096 of 20,480)."""
    norm_by_std: bool = False
    """For estimators that can divide by each group's deviation (plain GRPO: True)."""
    old_logprobs: Literal["rollout", "recompute"] = "rollout"
    """What the loss's ratio compares with: the rollout engine's report, or one more forward pass of the learner before its first update."""
    rollout_is: Literal["none", "token", "sequence"] = "none"
    """Weigh the loss by p(learner) / p(rollout), cut off at ``rollout_is_threshold``, of each token or of each whole response."""
    rollout_is_threshold: float = Field(default=2.0, gt=0)
    rollout_rs: Literal["none", "token", "sequence", "geometric"] = "none"
    """Leave out what the two policies disagree on: tokens, or responses by the product or the geometric mean of their tokens' ratios."""
    rollout_rs_threshold: float = Field(default=2.0, gt=1)
    """Largest ratio that stays in, and the inverse of the smallest."""
    optimizer: OptimizerSettings = OptimizerSettings()


class EvaluationSettings(Settings):
    """Held-out evaluation."""

    every_steps: int = Field(default=20, ge=0)
    """GRPO steps from one validation to the next; 0: only at the end."""
    quick_size: int = Field(default=96, ge=1)
    """Validation problems used during training."""
    runs: int = Field(default=2, ge=1)
    """Runs of each workflow per problem in the final table."""
    temperature: float | None = Field(default=None, ge=0)
    """Temperature of the sampled row and, where it is set, of the validation during GRPO, which is greedy else: R1-style models are made
    for 0.5 to 0.7 and repeat themselves at 0. None: ``rollout.temperature``."""
    sampled_completions: int = Field(default=4, ge=0)
    """Completions per problem for the sampled row of the final table and its pass@k; 0 leaves it out."""
    against: str = "best fixed workflow"
    """The row that all others are compared with, problem by problem: the name of any row of the table."""
    equal_cost: bool = True
    """Add self-consistency with as many samples as cost what the policy's workflows cost (in dollars; in calls where the price is 0)."""
    choice_runs: int = Field(default=1, ge=1)
    """Runs of each fixed workflow per validation problem, by which the best one and the best one per level are chosen."""
    choice_max_runs: int | None = Field(default=None, ge=1)
    """Runs that this choice may take in all. None: as many as all fixed workflows take on the test problems."""
    bootstrap: int = Field(default=1000, ge=100)
    """Resamples of problems for confidence intervals."""


class TrainerSettings(Settings):
    """The run as a whole."""

    run_dir: MayChange[str] = "runs/${now}"
    """Folder of the run: a path, or the URL of any storage that fsspec knows (``s3://bucket/run``). ``launch`` fills in the time. An
    existing one is resumed."""
    stages: MayChange[tuple[Literal["distil", "sft", "grpo", "evaluate"], ...]] = ("distil", "sft", "grpo", "evaluate")
    seed: int = 0
    imports: tuple[str, ...] = ()
    """Modules of your own that register something (``workflow.registry``), imported by every process of the run before it looks for it."""
    max_staleness: int = Field(default=0, ge=0, le=8)
    """Updates that a group may be older than the weights that it changes. 0: strictly on-policy, collecting and learning take turns;
    1 and more: they run side by side."""
    late_share: float = Field(default=0.0, ge=0, le=1)
    """Share of a step's groups that may be late: that many more are under way, and the slowest are learnt one step later.
    Takes one update of ``max_staleness``."""
    sft: SFTSettings = SFTSettings()
    grpo: GRPOSettings = GRPOSettings()
    evaluation: MayChange[EvaluationSettings] = EvaluationSettings()
    checkpoint: MayChange[CheckpointSettings] = CheckpointSettings()
    alarms: MayChange[AlarmSettings] = AlarmSettings()
    max_failures: MayChange[int] = Field(default=3, ge=1)
    """Failures of one kind in a row (learners lost without a further step, steps without one episode that could be judged) after
    which the run stops with the reason, its state saved."""
    deterministic: bool = False
    """The same seed gives the same weights to the last bit, also after a kill and a resume: groups are collected to their end before
    weights are published, and completions do not depend on what else is sampled. Slow on CPU: one sequence at a time."""
    max_dollars: MayChange[float | None] = Field(default=None, gt=0)
    """What the worker calls of GRPO may cost; the run pauses, with a checkpoint, before a step that would overspend. None: no limit."""


class RunSettings(Settings):
    """Every setting of a run: what ``conf/`` composes and ``config.yaml`` of a run folder holds."""

    model: ModelSettings = ModelSettings()
    worker: WorkerSettings = WorkerSettings()
    workers: dict[str, WorkerSettings] = {}
    """Further workers by the names that operators take: ``self.generate(problem, worker="large")``. What one does not say is as
    of ``worker``."""
    judge: JudgeSettings = JudgeSettings()
    simulated: SimulatedWorkerSettings = SimulatedWorkerSettings()
    tasks: TaskSettings = TaskSettings()
    sandbox: SandboxSettings = SandboxSettings()
    reward: RewardSettings = RewardSettings()
    rollout: RolloutSettings = RolloutSettings()
    distil: DistilSettings = DistilSettings()
    learner: LearnerSettings = LearnerSettings()
    trainer: TrainerSettings = TrainerSettings()
    logger: MayChange[LoggerSettings] = LoggerSettings()
    cluster: MayChange[ClusterSettings] = ClusterSettings()
    sweep: MayChange[SweepSettings] = SweepSettings()

    @property
    def prompt_facts(self) -> PromptFacts:
        """What the meta-prompts of the run say of it."""
        return prompt_facts(self.sandbox, self.rollout, self.reward, self.worker, self.workers)

    @property
    def crew(self) -> tuple[WorkerCard, ...]:
        """Whom operators may ask by name; empty where a run has one worker."""
        return name_workers(self.worker, self.workers)
