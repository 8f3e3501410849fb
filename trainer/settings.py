"""Settings of learning."""

from typing import Any, Literal

from pydantic import Field

from reward.settings import RewardSettings
from rollout.settings import DistilSettings, ModelSettings, RolloutSettings
from sandbox.settings import SandboxSettings
from trainer.cluster.settings import ClusterSettings, SweepSettings
from trainer.metrics.settings import AlarmSettings
from workflow.settings import JudgeSettings, MayChange, Settings, SimulatedWorkerSettings, TaskSettings, WorkerSettings


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
    deviation in the batch. Groups whose rewards do not differ have advantage 0 under each of them."""
    credit: Literal["episode", "round", "span"] = "episode"
    """Which tokens earn what (``trainer.algorithm.credit``). ``episode``: all of an episode its advantage. ``round``: those of each round
    the advantage of that round among the siblings that have one; takes ``rollout.rounds`` above 1. ``span``: as ``episode``, and those
    of an operator call in addition what the reward loses without it, for ``span_edits`` calls of a group."""
    span_edits: int = Field(default=4, ge=1)
    """Under ``credit=span``: operator calls of a group's workflows, chosen by chance, without which their workflow is run again, as often
    as ``rollout.runs_per_workflow``. These runs cost what they cost and count in ``max_dollars``, never in a reward."""
    min_deviation: float = Field(default=0.05, ge=0)
    """Least deviation in units of reward that the default estimator divides by, so that a batch which differs by an AST unit is not
    blown up to the size of one that differs by solved problems."""
    policy_loss: str = "vanilla"
    """A policy loss of verl's (``trainer.algorithm.names`` has the names) or one of your own, as for ``advantage``; it is called for one
    micro-batch at a time, so it has to aggregate by ``agg_loss(..., **config.global_batch_info)``, as verl's do. Those mean different
    things by ``clip_low`` and ``clip_high``.
    ``vanilla`` and ``cispo`` keep a token's ratio within 1 - clip_low and 1 + clip_high; ``gspo`` a whole response's, which is a
    geometric mean and so near 1 that the values of ``vanilla`` never clip it (its paper has 3e-4 and 4e-4, and
    ``seq-mean-token-mean``). ``dppo_tv`` bounds how far a token's probability moves, ``dppo_kl`` the KL that this makes. ``gpg`` and
    ``sapo`` clip nothing, and ``gpg`` has no ratio: it takes every sample for one of the policy as it is."""
    clip_low: float = Field(default=0.2, gt=0)
    clip_high: float = Field(default=0.28, gt=0)
    kl_coef: float = Field(default=0.001, ge=0)
    """Weight of the KL to the SFT policy in the loss; 0: no reference policy is kept."""
    entropy_coef: float = Field(default=0.0, ge=0)
    loss_aggregation: str = "token-mean"
    """How the loss of tokens becomes one figure. ``seq-mean-token-sum-norm`` divides by the longest response of the step."""
    refill: int = Field(default=0, ge=0)
    """Groups without differences among their rewards that one step may replace by further ones (DAPO's dynamic sampling). Those beyond
    it stay in the step and count in the mean over tokens."""
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


class CheckpointSettings(Settings):
    """When the state of a run is saved, and what is kept."""

    every_steps: int = Field(default=20, ge=1)
    keep: int = Field(default=2, ge=1)
    """The newest ones."""
    keep_best: bool = True
    """The one with the best validation reward, too."""


class LoggerSettings(Settings):
    """Sinks beside metrics.jsonl and the console."""

    wandb: Literal["auto", "online", "offline", "off"] = "auto"
    """``auto``: online with a key, else offline."""
    wandb_project: str = "flowreasoner"
    wandb_group: str | None = None
    """Runs that belong together; a sweep sets it to its folder's name, and each of its runs has the job type ``trial``."""
    wandb_episodes: int = Field(default=8, ge=0)
    """Episodes in a W&B table, from the worst to the best reward of a step; 0: none."""
    wandb_episodes_every: int = Field(default=20, ge=1)
    """GRPO steps from one such table to the next."""
    wandb_artifacts: Literal["off", "policy", "checkpoints"] = "off"
    """What W&B keeps as artifacts: nothing, the SFT and the trained policy, or these and every checkpoint (as large as the optimizer
    state; an offline run keeps a copy of each)."""
    tensorboard: bool = False
    sinks: tuple[str, ...] = ()
    """Sinks and callbacks of your own beside these, by registered names or as ``module:name``: see ``trainer.run.sinks``."""
    episodes: bool = True
    """Write every episode to episodes.jsonl."""
    trace_characters: int = Field(default=300, ge=0, le=4000)
    """Length to which the prompt and the reply of each operator call are cut there; 0: neither is written."""


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
