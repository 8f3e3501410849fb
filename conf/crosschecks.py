"""Checks between settings: each problem is one sentence with the values and the remedy."""

import re
from collections.abc import Iterator
from pathlib import Path

from conf.algorithm_checks import problems_of_algorithms
from conf.deterministic import problems_of_deterministic
from conf.worker_checks import problems_of_worker, problems_of_workers
from reward.check_terms import problems_of_terms
from rollout.engines.interface import ENGINES
from rollout.policies import POLICIES, is_made
from rollout.policy_files import is_url
from rollout.prompt.template import problem_of_prompt
from rollout.settings import context_tokens
from trainer.cluster.devices import find_started_parts, gpus_needed, too_few
from trainer.cluster.submission import in_submitted_job, joins_cluster
from trainer.evaluation.rows import check_against
from trainer.run.sinks import SINKS
from trainer.settings import RunSettings
from workflow.reference import load_reference_workflows
from workflow.tasks import check_tasks

STAGES = ("distil", "sft", "grpo", "evaluate")


def problems_between_settings(config: RunSettings, *, trains: bool = True) -> list[str]:
    """Everything that does not fit together, machine and files included where they are asked for by name.

    Args:
        trains: False for a command that does not run the stages: it learns nothing, so a finished run is used whatever it was trained
            with, and it counts the GPUs that it takes itself.
    """
    checks = (_model, _prompts, _engine, _tasks, problems_of_workers, _learner, problems_of_deterministic, _folder, _nodes, _sinks)
    training = (_teacher, _batch, _reward, problems_of_algorithms, _evaluation, _stages, _devices)
    return [problem for check in (*checks, *(training if trains else ())) for problem in check(config)]


def _model(config: RunSettings) -> Iterator[str]:
    path, others = config.model.path, " or ".join(map(repr, POLICIES))
    if not path:
        yield f"model.path is not set: give a Hugging Face folder, a hub id like owner/name, or {others}."
    elif is_made(path):
        if problem := POLICIES.problem(path):
            yield problem
    elif (Path(path).expanduser() / "config.json").is_file():
        return
    elif Path(path).expanduser().is_dir():
        yield f"model.path={path!r} is a folder without config.json: give a Hugging Face folder (config.json, weights, tokenizer)."
    elif not re.fullmatch(r"[A-Za-z0-9][\w.-]*/[\w.-]+", path):
        yield f"model.path={path!r} does not exist: give {others}, an existing Hugging Face folder, or a hub id like owner/name."


def _prompts(config: RunSettings) -> Iterator[str]:
    for setting, value in (("model.meta_prompt", config.model.meta_prompt), ("distil.prompt", config.distil.prompt)):
        if value is not None and (problem := problem_of_prompt(setting, value)):
            yield problem


def _engine(config: RunSettings) -> Iterator[str]:
    if problem := ENGINES.problem(config.rollout.engine):
        yield problem


def _tasks(config: RunSettings) -> Iterator[str]:
    tasks = config.tasks
    if problem := check_tasks(tasks):
        yield problem
    if missing := sorted(set(tasks.libraries) - set(config.sandbox.libraries)):
        yield f"tasks.libraries holds {missing[0]!r}, which the sandbox does not offer: add it to sandbox.libraries."


def _teacher(config: RunSettings) -> Iterator[str]:
    if "distil" in config.trainer.stages:
        yield from problems_of_worker(config.distil.worker())
    sensible, habit = config.simulated.teacher_sensible, config.simulated.teacher_habit
    if sensible + habit > 1:
        yield (
            f"simulated.teacher_sensible={sensible} and simulated.teacher_habit={habit} are shares of the teacher's replies "
            "and add up to more than 1: lower one of them."
        )


def _batch(config: RunSettings) -> Iterator[str]:
    model, learner, grpo, rollout = config.model, config.learner, config.trainer.grpo, config.rollout
    longest = context_tokens(model, rollout)
    if learner.micro_batch_tokens < longest:
        yield (
            f"learner.micro_batch_tokens={learner.micro_batch_tokens} cannot hold one episode: model.max_prompt_tokens + "
            f"rollout.rounds x model.max_response_tokens and the feedback between rounds make {longest}: set it to at least {longest}."
        )
    episodes = grpo.problems_per_step * rollout.group_size
    if episodes % (grpo.updates_per_step * learner.ranks):
        yield (
            f"trainer.grpo.problems_per_step x rollout.group_size = {episodes} episodes cannot be cut evenly into "
            f"trainer.grpo.updates_per_step={grpo.updates_per_step} mini-batches for learner.ranks={learner.ranks}: "
            f"choose numbers whose product divides {episodes}."
        )
    if config.trainer.sft.batch_size % learner.ranks:
        yield f"trainer.sft.batch_size={config.trainer.sft.batch_size} is no multiple of learner.ranks={learner.ranks}: choose one that is."
    if rollout.temperature == 0 and "grpo" in config.trainer.stages and grpo.steps:
        yield "rollout.temperature=0 makes all completions of a group equal, so GRPO has nothing to compare: set it to 1.0."
    if config.trainer.late_share and not config.trainer.max_staleness:
        yield (
            f"trainer.late_share={config.trainer.late_share} lets slow groups be learnt a step later, but trainer.max_staleness=0 allows "
            "no group to be older than the weights: set trainer.max_staleness to 2 (1: no overlap is left), or late_share to 0."
        )
    if config.distil.max_requests < config.distil.traces:
        yield (
            f"distil.max_requests={config.distil.max_requests} is below distil.traces={config.distil.traces}: "
            "raise it, since not every trace passes."
        )


def _reward(config: RunSettings) -> Iterator[str]:
    yield from problems_of_terms(config.reward)


def _sinks(config: RunSettings) -> Iterator[str]:
    yield from filter(None, map(SINKS.problem, config.logger.sinks))
    if "wandb" in config.logger.sinks and config.logger.wandb == "off":
        yield "logger.sinks names wandb, but logger.wandb=off: set it to auto, online or offline, or take wandb out."


def _evaluation(config: RunSettings) -> Iterator[str]:
    try:
        check_against(("SFT policy", "GRPO policy"), load_reference_workflows(), config.trainer.evaluation)
    except ValueError as error:
        yield str(error)


def _learner(config: RunSettings) -> Iterator[str]:
    grpo = config.trainer.grpo
    for name, value in (("rollout_is", grpo.rollout_is), ("rollout_rs", grpo.rollout_rs)):
        if value != "none" and grpo.old_logprobs == "rollout":
            yield (
                f"trainer.grpo.{name}={value} compares the learner's log-probabilities with the rollout's, and with "
                "trainer.grpo.old_logprobs=rollout both are the rollout's: set it to recompute."
            )
    if config.learner.offload_optimizer and config.cluster.device == "cpu":
        yield (
            "learner.offload_optimizer=true moves the optimizer from a GPU to main memory, and cluster.device='cpu' has it there: "
            "set it to false."
        )


def _stages(config: RunSettings) -> Iterator[str]:
    stages = config.trainer.stages
    if not stages:
        yield f"trainer.stages is empty: name at least one of {', '.join(STAGES)}."
    if list(stages) != [stage for stage in STAGES if stage in stages]:
        right = ",".join(stage for stage in STAGES if stage in stages)
        yield f"trainer.stages=[{','.join(stages)}] is not in the order of the run: write [{right}]."


def _folder(config: RunSettings) -> Iterator[str]:
    run_dir = config.trainer.run_dir
    if not run_dir.strip():
        yield "trainer.run_dir is empty: give the folder of the run, for example runs/first."
    elif in_submitted_job() and not is_url(run_dir) and not Path(run_dir).expanduser().is_absolute():
        yield (
            f"trainer.run_dir={run_dir!r} lies in the working directory of the submitted job, which goes when the job ends: give an "
            "absolute path on storage that all nodes mount, or a URL like s3://bucket/run."
        )
    if is_url(run_dir) and config.learner.nodes > 1:
        yield (
            f"trainer.run_dir={run_dir!r} is a URL, but with learner.nodes={config.learner.nodes} several machines write one checkpoint: "
            "give a path on storage that all nodes mount, or set learner.nodes=1."
        )


def _nodes(config: RunSettings) -> Iterator[str]:
    learner = config.learner
    if learner.ranks % learner.nodes:
        yield f"learner.ranks={learner.ranks} cannot be spread evenly over learner.nodes={learner.nodes}: choose a multiple of it."
    for kind, resources in config.cluster.resources:
        for name, amount in resources.items():
            if name in ("CPU", "GPU", "memory") or amount <= 0:
                yield (
                    f"cluster.resources.{kind} has {name}={amount:g}: name a custom resource that nodes were started with, and more than 0 "
                    "of it; CPUs and GPUs follow from the other settings."
                )


def _devices(config: RunSettings) -> Iterator[str]:
    """The GPUs of this machine are counted where a run takes them; a cluster's are not known here."""
    device, parts = config.cluster.device, find_started_parts(config.trainer.stages)
    made_on_cpu = device == "auto" and is_made(config.model.path)
    if device == "cpu" or made_on_cpu or joins_cluster(config.cluster.address):
        return
    import torch

    present = torch.cuda.device_count()
    if gpus_needed(config, **parts) > present and (present or device == "cuda"):
        yield too_few(config, present, "this machine", **parts)
