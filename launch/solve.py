"""``python -m launch.solve RUN_DIR "query"``: one query from the command line.

Shows the policy's reasoning, the workflow it wrote, every operator call of the run, and the answer.
"""

import argparse
import asyncio
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from conf.schema import Config
from launch.shell import load_run_settings, one_sentence_errors, report_error
from trainer.run.at_url import fetch
from trainer.run.terminal import Terminal, code, panel, plain, quiet_libraries, table
from workflow.language.reasoning import format_reasoning
from workflow.outcome import Outcome
from workflow.problem import Problem
from workflow.tasks.query import query_problem

if TYPE_CHECKING:
    from sandbox.records import OperatorCall
    from trainer.evaluation.solve import Solution

EXIT = (
    "Exit status: 0 an answer came out and passes all given tests (or none were given); 1 no answer, or a test fails; "
    "2 something to repair first, such as settings, the query, or an endpoint that gives no answer when it is tried at the start "
    "(one sentence says what); 3 a machine or an endpoint failed later, or something unexpected happened (one sentence, too), "
    "so nothing is known of the answer; 130 interrupted."
)
REPLY_CHARACTERS = 160
"""Length to which the table cuts the reply of a call."""


def parser() -> argparse.ArgumentParser:
    """Options of the command."""
    out = argparse.ArgumentParser(prog="python -m launch.solve", description="Let a trained policy solve one query.", epilog=EXIT)
    out.add_argument("run_dir", help="run folder or URL whose policy answers")
    out.add_argument("query", help="text of the problem, for example: 'Write f(xs) that reverses the list, then ...'")
    out.add_argument("--entry", default="f", help="name of the function that a solution defines (default: f)")
    out.add_argument(
        "--test", action="append", default=[], metavar="ASSERT", help="public test, for example 'assert f([1, 2]) == 3'; repeatable"
    )
    out.add_argument("--stage", choices=("policy", "sft"), default="policy", help="the GRPO policy (default) or the SFT policy")
    out.add_argument("--temperature", type=float, default=0.0, help="0 is greedy (default)")
    out.add_argument("overrides", nargs="*", help="Hydra overrides, for example worker.temperature=0")
    return out


def show(solution: "Solution", terminal: Terminal) -> None:
    """Prints reasoning, workflow, run and answer, all as the models wrote it."""
    episode = solution.episode
    if episode.refusal is not None:
        terminal.print(panel(episode.completion.text, "Completion", "red"))
        terminal.print(plain(f"No workflow: {episode.refusal.message}", "red"), soft_wrap=True)
        return
    reasoning = format_reasoning(episode.completion.text)
    terminal.print(panel(reasoning or "(none)", "Reasoning"))
    terminal.print(panel(code(episode.workflow.source if episode.workflow else ""), "Workflow"))
    execution = episode.runs[0].execution
    columns = ("call", "operator", "reply", "worker calls", "tokens", "seconds")
    terminal.print(table(columns, [_row(call) for call in execution.trace], title="Run"))
    if solution.answer is None:
        what = "lost to infrastructure" if execution.outcome == Outcome.INFRA_ERROR else execution.outcome
        terminal.print(plain(f"No answer: {what}: {execution.error or 'no reason given'}", "red"), soft_wrap=True)
        return
    terminal.print(plain("Answer:", "bold"))
    terminal.print(code(solution.answer), soft_wrap=True)  # without a frame and not wrapped: to be copied
    if solution.public_verdict is not None:
        passed, failures = solution.public_verdict.passed, solution.public_verdict.failures
        said = f"{sum(passed)} of {len(passed)} of the query's own tests pass." if passed else "The query's own tests could not be run:"
        terminal.print(plain("\n".join([said, *failures]), "" if passed and all(passed) else "red"), soft_wrap=True)


def _row(call: "OperatorCall") -> list[str]:
    tokens = str(call.prompt_tokens + call.completion_tokens)
    return [str(call.index + 1), call.operator, _reply(call), str(call.worker_calls), tokens, f"{call.latency_s:.2f}"]


def _reply(call: "OperatorCall") -> str:
    """What the call brought, a text without its JSON quotes (the trace may have cut them off)."""
    text = call.error or call.reply
    for whole in (text, f'{text}"'):
        try:
            value = json.loads(whole, strict=False)
        except ValueError:
            continue
        text = value if isinstance(value, str) and not call.error else text
        break
    return text if len(text) <= REPLY_CHARACTERS else f"{text[:REPLY_CHARACTERS]} ..."


def exit_status(solution: "Solution") -> int:
    """0, 1 or 3, as ``EXIT`` says."""
    if solution.outcome is Outcome.INFRA_ERROR:
        return 3
    return 0 if solution.outcome in (Outcome.PASSED, Outcome.ANSWERED) else 1


def check_length(policy: Path, settings: Config, problem: Problem) -> None:
    """Raises ValueError where the policy cannot be loaded or the query is too long for it."""
    from rollout.policy_check import check_prompt, longest_prompt

    prompt = check_prompt(policy, settings.model, settings.rollout, settings.prompt_facts)
    (ids,) = prompt.ids([problem])
    limit, longest = settings.model.max_prompt_tokens, longest_prompt(policy, settings.model, settings.rollout)
    if len(ids) > limit:
        remedy = f", or add model.max_prompt_tokens={len(ids)}, though the policy was trained on shorter ones"
        if len(ids) > longest:
            remedy = f"; its model holds no more than {longest:.0f} beside its responses"
        raise ValueError(
            f"The query is too long: with the meta-prompt it takes {len(ids)} tokens, and the policy reads up to {limit} "
            f"(model.max_prompt_tokens): shorten it{remedy}."
        )


@one_sentence_errors
def main() -> int:
    """Entry point; the exit status says how it went."""
    options = parser().parse_intermixed_args()
    try:
        return solve_query(options)
    except Exception as error:
        return report_error(error, failed=3, unexpected=3)


def solve_query(options: argparse.Namespace) -> int:
    """Answers the query, shows what came out, and returns 0, 1 or 3."""
    problem = query_problem(options.query, options.entry, tuple(options.test))
    run_dir = fetch(options.run_dir)
    settings = load_run_settings(run_dir, options.overrides)
    policy = run_dir / options.stage
    if not (policy / "config.json").exists():
        raise ValueError(f"{run_dir} has no {options.stage} folder with a policy: train it first, or choose --stage sft.")
    quiet_libraries()
    progress = Terminal(stderr=True)
    progress.print("Reading the policy, then starting the engine and the sandbox; this takes a minute ...", soft_wrap=True)
    check_length(policy, settings, problem)

    async def answer() -> "Solution":
        from trainer.evaluation.solve import solve
        from trainer.system import System

        def say(text: str) -> None:
            progress.print(text, soft_wrap=True)

        async with System(settings, policy=policy, learner_start=None, log_dir=run_dir, say=say) as system:
            return await solve(system, settings, problem, temperature=options.temperature)

    solution = asyncio.run(answer())
    show(solution, Terminal())
    return exit_status(solution)


if __name__ == "__main__":
    sys.exit(main())
