"""The stages of a run: distil, SFT, GRPO, evaluate. Each picks up what the run folder already has."""

import asyncio
import time
from pathlib import Path

from rollout.distil import Distiller, teacher_prompt
from rollout.policies import POLICIES, is_made
from rollout.policy_check import check_prompt
from rollout.prompt.meta_prompt import MetaPrompt
from rollout.traces import describe_replies
from trainer.algorithm.sft import SFTRow, order_rows, sft_batch
from trainer.cluster.devices import find_started_parts
from trainer.evaluation.rows import refuse_if_all_lost
from trainer.evaluation.show import print_table
from trainer.evaluation.table import final_table
from trainer.failures import Failures
from trainer.fitting import Lessons, fitting
from trainer.learner.handle import Learner
from trainer.loop import train_grpo
from trainer.recovery import with_learner
from trainer.run.folder import RunFolder
from trainer.run.terminal import quiet_libraries
from trainer.settings import RunSettings
from trainer.system import System
from workflow.outcome import RunFailedError
from workflow.reference import load_reference_workflows
from workflow.tasks import load_tasks
from workflow.worker.redact import redact_url


async def train(settings: RunSettings, run: RunFolder) -> None:
    """Runs the stages of ``trainer.stages`` that the run folder has not finished yet.

    Raises:
        ValueError: a setting does not fit; the message names it and the remedy.
    """
    quiet_libraries()
    due = [stage for stage in settings.trainer.stages if not run.is_done(stage)]
    if not due:
        run.say(f"All stages of {run.path} are done: nothing to train.")
        return
    base = await prepare_policy(settings, run)
    started = run.sft_policy if run.is_done("sft") else base
    prompt = await asyncio.to_thread(check_prompt, started, settings.model, settings.rollout, settings.prompt_facts)
    tasks = await asyncio.to_thread(fitting, load_tasks(settings.tasks), prompt, settings.model, run.say)
    parts = find_started_parts(due)
    policy_at = await asyncio.to_thread(run.reachable, started) if parts["engines"] else None
    async with System(
        settings,
        policy=started if parts["engines"] else None,
        policy_at=policy_at,
        learner_start=started if parts["learner"] else None,
        log_dir=run.path,
        tasks=tasks,
        say=run.say,
    ) as system:
        run.say(describe(settings, system))
        if "distil" in due:
            await distil(system, settings, run, prompt)
        failures = Failures(settings.trainer.max_failures)
        if "sft" in due:
            await with_learner(system, run, failures, base, lambda learner: sft(system, learner, settings, run, prompt))
        if "grpo" in due:
            start = run.sft_policy if run.is_done("sft") else base
            await with_learner(system, run, failures, start, lambda learner: grpo(system, learner, settings, run, failures))
        if "evaluate" in due:
            await evaluate(system, settings, run)


def describe(settings: RunSettings, system: System) -> str:
    """What is real and what is small or simulated in this run, in one line."""
    policy = f"policy {settings.model.path}{' (made on the spot)' if is_made(settings.model.path) else ''}"
    at = f" at {redact_url(system.worker.base_url)}" if system.worker.base_url else ""
    worker = f"worker {settings.worker.model or settings.worker.provider}"
    return f"{policy} | {worker}{at} | tasks {settings.tasks.name}: {system.tasks.describe()}"


async def prepare_policy(settings: RunSettings, run: RunFolder) -> Path:
    """The folder or hub id that the policy starts from; what makes a policy does so in the run folder."""
    if not is_made(settings.model.path):
        return Path(settings.model.path).expanduser()
    if not (run.base_policy / "config.json").exists():
        make = POLICIES.find(settings.model.path)
        await asyncio.to_thread(make, run.base_policy, load_tasks(settings.tasks), settings.rollout, settings.trainer.seed)
    return run.base_policy


async def distil(system: System, settings: RunSettings, run: RunFolder, prompt: MetaPrompt) -> None:
    """Stage 1: asks the teacher until there are enough traces to learn from; appends each to ``traces.jsonl`` as it comes.

    Those are traces that SFT will learn from: what it would leave out is no reason to stop asking.
    """
    lessons, known = Lessons(system.tasks.train, prompt, settings), run.read_traces()
    rounds = settings.distil.rounds
    asking = f"asking the teacher, up to {rounds} rounds a query," if rounds > 1 else "asking the teacher"
    run.stage("distil", f"{asking} for {lessons.wanted} traces to learn from")
    for trace in known:
        lessons.add(trace)
    async with system.teacher() as teacher:
        distiller = Distiller(
            teacher,
            await system.sandbox(),
            settings.distil,
            settings.rollout,
            settings.reward,
            teacher_prompt(settings.distil, settings.model),
            settings.trainer.seed,
            prompt.facts,
        )
        async for trace in distiller.traces(
            system.tasks.train,
            wanted=lessons.wanted,
            teaches=lessons.add,
            first=known[-1].index + 1 if known else 0,
            useful=lessons.useful,
        ):
            run.append_trace(trace)
            known.append(trace)
            run.progress("distil", lessons.useful, lessons.wanted, f"{trace.index + 1} asked")
    run.say(describe_replies(known))
    run.say(lessons.describe())
    lessons.refuse_if_none(next((trace.fault for trace in reversed(known) if trace.fault), ""))
    run.mark_done("distil", passed=lessons.useful)


async def sft(system: System, learner: Learner, settings: RunSettings, run: RunFolder, prompt: MetaPrompt) -> None:
    """Stage 2: supervised fine-tuning on the traces that ``Lessons`` chooses; writes the SFT policy as a Hugging Face folder."""
    sft_settings = settings.trainer.sft
    traces, lessons = {trace.index: trace for trace in run.read_traces()}, Lessons(system.tasks.train, prompt, settings)
    if not traces:
        raise ValueError(f"{run.path} has no distilled traces: run the stage distil first, or leave sft out of trainer.stages.")
    for trace in traces.values():
        lessons.add(trace)
    lessons.refuse_if_none()
    chosen = [traces[index] for index in lessons.chosen]
    rows = [row for row in map(lessons.row, chosen) if isinstance(row, SFTRow)]
    run.stage("sft", f"{sft_settings.steps} steps of {sft_settings.batch_size}. {lessons.describe()}")
    await learner.configure_optimizer(sft_settings.optimizer, sft_settings.steps)
    order = order_rows(lessons.weights(chosen), sft_settings.steps * sft_settings.batch_size, settings.trainer.seed)
    for step in range(sft_settings.steps):
        drawn = order[step * sft_settings.batch_size : (step + 1) * sft_settings.batch_size]
        start = time.monotonic()
        metrics = await learner.sft(sft_batch([rows[index] for index in drawn]))
        run.log("sft", step, metrics | {"time/sft_step_s": time.monotonic() - start}, total=sft_settings.steps)
    await learner.export(run.sft_policy)
    run.mark_done("sft", steps=sft_settings.steps, traces=len(rows))


async def grpo(system: System, learner: Learner, settings: RunSettings, run: RunFolder, failures: Failures) -> None:
    """Stage 3: GRPO from the SFT policy (or from the latest checkpoint); writes the trained policy."""
    grpo_settings = settings.trainer.grpo
    if grpo_settings.kl_coef > 0:
        await learner.set_reference()
    await learner.configure_optimizer(grpo_settings.optimizer, grpo_settings.steps * grpo_settings.updates_per_step)
    first_step, collected = await run.restore(learner)
    collector = await system.collector()
    run.stage(
        "grpo",
        f"steps {first_step + 1} to {grpo_settings.steps}: {grpo_settings.problems_per_step} problems x "
        f"{settings.rollout.group_size} completions x {settings.rollout.runs_per_workflow} runs{describe_more(settings)}",
    )
    await train_grpo(
        collector,
        await system.fleet(),
        learner,
        run,
        settings.trainer,
        train=system.tasks.train,
        validation=system.tasks.validation,
        first_step=first_step,
        collected=collected,
        failures=failures,
        max_response_tokens=settings.model.max_response_tokens,
    )
    refuse_if_all_masked(run)
    await learner.export(run.policy)
    run.mark_done("grpo", steps=len(run.rows("grpo")))


def describe_more(settings: RunSettings) -> str:
    """What a step may run beyond its groups; empty where nothing."""
    grpo, rollout = settings.trainer.grpo, settings.rollout
    more = [f"up to {rollout.rounds} rounds"] if rollout.rounds > 1 else []
    more += [f"up to {grpo.refill} groups more where some are flat"] if grpo.refill else []
    more += [f"{grpo.span_edits} calls of each group edited"] if grpo.credit == "span" else []
    return f", {', '.join(more)}" if more else ""


def refuse_if_all_masked(run: RunFolder) -> None:
    """Raises RunFailedError, with the reason, where no episode of the whole stage could be judged: the policy is what it was before."""
    rows = run.rows("grpo")
    if rows and all(row["infra/masked_share"] == 1 for row in rows):
        raise RunFailedError(
            f"None of the {sum(row['infra/masked'] for row in rows):.0f} episodes of {len(rows)} GRPO steps could be judged, so nothing "
            f"was learnt; the last one was lost to: {run.state.last_fault or 'no reason given'}. Mend the cause, then go on with more "
            "steps (trainer.grpo.steps) or in another trainer.run_dir."
        )


def describe_evaluation(system: System, settings: RunSettings) -> str:
    """How many workflows the final table runs, before they are paid for."""
    ask, problems, fixed = settings.trainer.evaluation, len(system.tasks.test), len(load_reference_workflows())
    table = problems * ask.runs
    choosing = min(ask.choice_max_runs or fixed * table, fixed * len(system.tasks.validation) * ask.choice_runs)
    policies = 2 * table * (1 + ask.sampled_completions) * settings.rollout.rounds
    return (
        f"{problems} held-out problems x {ask.runs} runs: {fixed * table:,} workflow runs of fixed workflows, up to {choosing:,} to choose "
        f"among them, and up to {policies:,} of the policies"
    )


async def evaluate(system: System, settings: RunSettings, run: RunFolder) -> None:
    """Stage 4: every policy and every reference workflow on the held-out problems; writes ``results.json``."""
    run.stage("evaluate", describe_evaluation(system, settings))
    policies = {name: folder for name, folder in (("SFT policy", run.sft_policy), ("GRPO policy", run.policy)) if folder.exists()}
    references = load_reference_workflows()
    run.begin_held_out()
    rows = await final_table(system, settings, policies, references, say=run.say, keep=run.log_held_out)
    run.write_results(rows)
    shown = {next(iter(references)), settings.trainer.evaluation.against}
    print_table(rows, run.console.console, without=set(references) - shown)
    refuse_if_all_lost(rows)
    run.mark_done("evaluate")
