"""The report's page: headline, figures, final table, example workflows, settings."""

from dataclasses import dataclass
from pathlib import Path

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined, Template, select_autoescape
from markupsafe import Markup

from launch.report.examples import example_workflows
from launch.report.pipeline_figures import idle, rounds, time_per_step
from launch.report.result_figures import calls_by_level, reward_against_calls
from launch.report.run_data import Row, RunData, read_run, setting_of
from launch.report.tables import benchmark_table, choice_lines, difference_table, final_rows, heat_tables, pass_at_k_lines, terms_table
from launch.report.training_figures import calls_over_steps, learning, operators, outcomes, reward, reward_parts, verifiers
from launch.report.worth import worth_table
from trainer.evaluation.rows import BEST_FIXED, BEST_PER_LEVEL
from trainer.run.console import minutes
from workflow.worker.redact import with_shown_urls


@dataclass(frozen=True)
class Card:
    """One headline number."""

    value: str
    label: str
    note: str = ""


def write_report(run_dir: Path, out: Path | None = None) -> Path:
    """Writes the report of a run folder and returns its path.

    Raises:
        ValueError: no run folder.
    """
    file = out or run_dir / "report.html"
    file.write_text(render(read_run(run_dir)), encoding="utf-8")
    return file


def render(run: RunData) -> str:
    """The page as HTML without any outside asset."""
    return template("report.html.jinja").render(
        title=run.path.resolve().name,
        about=about(run.config),
        stopped=not run.rows,
        cards=cards(run),
        alarms=run.alarms,
        figures={name: Markup(svg) for name, svg in _figures(run).items() if svg},
        table=final_rows(run.rows),
        terms=terms_table(run.rows),
        heats=heat_tables(run.rows),
        worth=worth_table(run.grpo),
        differences=difference_table(run.rows),
        benchmarks=benchmark_table(run.rows),
        notes=[*pass_at_k_lines(run.rows), *choice_lines(run.rows)],
        per_level=(run.row(BEST_PER_LEVEL) or {}).get("of", {}),
        examples=example_workflows(run),
        traces=run.traces.most_common(),
        config=with_shown_urls(yaml.safe_dump(run.config, sort_keys=False, allow_unicode=True)),
        shapes_of=run.shapes_of,
        test_size=_problems(run),
    )


def template(name: str) -> Template:
    """A page's template; the style sheet is in it already."""
    environment = Environment(
        loader=PackageLoader("launch", "report"),
        autoescape=select_autoescape(default=True, default_for_string=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    loader = environment.loader
    assert loader is not None
    css, _, _ = loader.get_source(environment, "report.css")
    environment.globals["css"] = Markup(css)
    return environment.get_template(name)


def _figures(run: RunData) -> dict[str, str]:
    return {
        "reward": reward(run),
        "parts": reward_parts(run),
        "outcomes": outcomes(run),
        "operators": operators(run),
        "verifiers": verifiers(run),
        "calls_over_steps": calls_over_steps(run),
        "time": time_per_step(run),
        "idle": idle(run),
        "rounds": rounds(run),
        "learning": learning(run),
        "calls_by_level": calls_by_level(run),
        "against_calls": reward_against_calls(run),
    }


def _problems(run: RunData) -> int:
    return max((int(row.get("problems", 0)) for row in run.rows), default=0)


def about(config: Row) -> list[str]:
    """What was trained with what, and what of it is small or simulated."""
    policy = setting_of(config, "model.path", "?")
    worker = setting_of(config, "worker.model", "?")
    return [
        f"Policy: {policy}",
        f"Worker LLM: {worker}",
        f"Tasks: {setting_of(config, 'tasks.name', '?')}",
        f"Seed: {setting_of(config, 'trainer.seed', '?')}",
    ]


def cards(run: RunData) -> list[Card]:
    """The headline numbers that the run has."""
    out: list[Card] = []
    grpo, sft, best, per_level = (run.row(name) for name in ("GRPO policy", "SFT policy", BEST_FIXED, BEST_PER_LEVEL))
    if grpo:
        out.append(Card(f"{grpo['reward']:.3f}", "reward of the GRPO policy", f"95 % interval {interval(grpo, 'reward_ci')}"))
        if best:
            difference = grpo["reward"] - best["reward"]
            paired = grpo.get("minus", {})
            sure = f", 95 % interval of the difference {interval(paired, 'reward_ci')}" if paired.get("of") == BEST_FIXED else ""
            against = f"{best.get('of', 'best fixed')}: {best['reward']:.3f}{sure}"
            out.append(Card(f"{difference:+.3f}", "against the best fixed workflow", against))
        if per_level:
            note = f"{per_level['reward']:.3f}: the best of the fixed ones for each kind of query"
            out.append(Card(f"{grpo['reward'] - per_level['reward']:+.3f}", "against the best reference per level", note))
        if sft:
            out.append(Card(f"{grpo['reward'] - sft['reward']:+.3f}", "gained by GRPO", f"SFT policy: {sft['reward']:.3f}"))
        out.append(Card(f"{grpo.get('solved', grpo['pass_rate']):.1%}", "queries solved", f"with {grpo['calls']:.2f} worker calls each"))
    elif run.grpo and run.grpo[-1].get("reward/mean") is not None:
        out.append(Card(f"{run.grpo[-1]['reward/mean']:.3f}", "reward of the last training step", f"step {run.grpo[-1]['step'] + 1}"))
    if run.results.get("wall_s"):
        out.append(Card(minutes(run.results["wall_s"]), "wall time", f"{len(run.grpo)} GRPO steps"))
    elif run.grpo:
        out.append(Card(f"{len(run.grpo)}", "GRPO steps so far", f"of {run.setting('trainer.grpo.steps', '?')}"))
    return out


def interval(row: Row, name: str) -> str:
    """An interval as text; a dash where there is none."""
    bounds = row.get(name)
    return f"{bounds[0]:.3f} to {bounds[1]:.3f}" if bounds else "-"
