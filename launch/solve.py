"""``python -m launch.solve RUN_DIR "query"``: one query from the command line.

Shows the policy's reasoning, the workflow it wrote, every operator call of the run, and the answer.
"""

import argparse
import asyncio
import sys

from rich.console import Console
from rich.panel import Panel
from rich.syntax import Syntax
from rich.table import Table

from launch.shell import one_sentence_errors, saved_settings
from trainer.run_at_url import fetched
from trainer.solve import Solution, query_problem, solve
from trainer.system import System, quiet_libraries
from workflow.reasoning import shown_reasoning


def parser() -> argparse.ArgumentParser:
    """Options of the command."""
    out = argparse.ArgumentParser(prog="python -m launch.solve", description="Let a trained policy solve one query.")
    out.add_argument("run_dir", help="run folder or URL whose policy answers")
    out.add_argument("query", help="text of the problem, for example: 'Write f(xs) that reverses the list, then ...'")
    out.add_argument("--entry", default="f", help="name of the function that a solution defines (default: f)")
    out.add_argument(
        "--test", action="append", default=[], metavar="ASSERT", help="public test, for example 'assert f([1, 2]) == 3'; repeatable"
    )
    out.add_argument("--stage", choices=("policy", "sft"), default="policy", help="the GRPO policy (default) or the SFT policy")
    out.add_argument("--temperature", type=float, default=0.0, help="0 is greedy (default)")
    out.add_argument("overrides", nargs="*", help="Hydra overrides, for example worker.base_url=http://localhost:8000/v1")
    return out


def show(solution: Solution, console: Console) -> None:
    """Prints reasoning, workflow, run and answer."""
    episode = solution.episode
    source = episode.workflow.source if episode.workflow else ""
    reasoning = shown_reasoning(episode.completion.text)
    console.print(Panel(reasoning or "(none)", title="Reasoning", title_align="left"))
    if episode.refusal is not None:
        console.print(
            Panel(episode.completion.text, title=f"No workflow: {episode.refusal.message}", title_align="left", border_style="red")
        )
        return
    console.print(Panel(Syntax(source, "python"), title="Workflow", title_align="left"))
    execution = episode.runs[0].execution
    calls = Table("call", "operator", "reply", "worker calls", "tokens", "seconds", title="Run", title_justify="left")
    for call in execution.trace:
        reply = (call.error or call.reply)[:160]
        tokens = str(call.prompt_tokens + call.completion_tokens)
        calls.add_row(str(call.index + 1), call.operator, reply, str(call.worker_calls), tokens, f"{call.latency_s:.2f}")
    console.print(calls)
    if solution.answer is None:
        console.print(f"No answer: {execution.outcome} {execution.error}", style="red")
        return
    console.print(Panel(Syntax(solution.answer, "python"), title="Answer", title_align="left"))
    if solution.public_verdict is not None:
        verdict = solution.public_verdict
        console.print(f"{sum(verdict.passed)} of {len(verdict.passed)} of the query's own tests pass. {' '.join(verdict.failures)}")


@one_sentence_errors
def main() -> int:
    """Entry point; exit status 0 where an answer came out."""
    options = parser().parse_intermixed_args()
    run_dir = fetched(options.run_dir)
    settings = saved_settings(run_dir, options.overrides)
    policy = run_dir / options.stage
    if not (policy / "config.json").exists():
        raise ValueError(f"{run_dir} has no {options.stage} folder with a policy: train it first, or choose --stage sft.")
    problem = query_problem(options.query, options.entry, tuple(options.test))
    quiet_libraries()

    async def answer() -> Solution:
        async with System(settings, policy=policy, learner_start=None, log_dir=run_dir) as system:
            return await solve(system, settings, problem, temperature=options.temperature)

    solution = asyncio.run(answer())
    show(solution, Console())
    return 0 if solution.answer is not None else 1


if __name__ == "__main__":
    sys.exit(main())
