"""``python -m launch.prepare SET``: a published task set as ``problems.jsonl``, audited row by row in the sandbox.

Writes into the folder ``--out``: ``problems.jsonl`` (sound rows, our schema: train on it with tasks=jsonl), ``audit.json`` (every
row) and ``audit.md`` (the table, and each row left out with its reason).
"""

import argparse
import asyncio
import json
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, closing
from dataclasses import asdict
from pathlib import Path

from launch.shell import one_sentence_errors
from sandbox.audit import RowAudit, audit
from sandbox.calibration import Calibration, calibrate
from sandbox.sandbox import Sandbox
from sandbox.settings import LimitSettings, SandboxSettings
from trainer.run.terminal import Bar, Terminal
from workflow.problem import Problem
from workflow.registry import load_plugins
from workflow.settings import HubSettings, JudgeSettings, TaskSettings
from workflow.tasks import TASK_SETS, Loaded, load_source
from workflow.tasks.files import write_jsonl
from workflow.verifiers import find_libraries
from workflow.worker.interface import Worker
from workflow.worker.providers import open_worker

PARALLEL = 4
"""Rows audited at once."""


def parser() -> argparse.ArgumentParser:
    """Options of the command."""
    out = argparse.ArgumentParser(prog="python -m launch.prepare", description="Audit a task set and write what can be trained on.")
    out.add_argument("set", help=f"the task set: {', '.join(TASK_SETS)}, or module:name; jsonl: a file in our own schema")
    out.add_argument("--path", help="its original file, plain or .gz; default: its public home")
    out.add_argument("--hub", nargs="*", default=[], metavar="NAME=VALUE", help="settings of a set of the hub, for example query=question")
    out.add_argument("--imports", nargs="*", default=[], metavar="MODULE", help="modules that register task sets or verifiers")
    out.add_argument("--out", type=Path, help="folder to write (default: data/SET)")
    out.add_argument("--mutants", type=int, default=5, help="mutants of each reference to judge (default: 5)")
    out.add_argument("--libraries", nargs="*", default=[], metavar="NAME", help="installed packages that its problems may need")
    out.add_argument("--limit", type=int, help="only the first rows")
    out.add_argument("--wall-s", type=float, default=20.0, help="deadline of one judgement (default: 20)")
    out.add_argument("--judge-url", help="endpoint of an LLM that judges open-ended answers; on sets with tests its agreement is measured")
    out.add_argument("--judge-model", help="its model; its key is in OPENAI_API_KEY")
    out.add_argument("--judged", type=int, default=50, help="problems whose right and wrong answers it judges (default: 50)")
    out.add_argument("--level", choices=("landlock", "namespace"), default="landlock", help="refuse to run below this isolation")
    return out


def load_rows(options: argparse.Namespace) -> Loaded:
    """The set's rows. Raises ValueError where they cannot be read."""
    load_plugins(options.imports)
    hub = dict(setting.partition("=")[::2] for setting in options.hub)
    if unknown := sorted(hub.keys() - HubSettings.model_fields.keys()):
        raise ValueError(f"--hub {unknown[0]} is unknown: name one of {', '.join(HubSettings.model_fields)}.")
    settings = TaskSettings(name=options.set, path=options.path, libraries=tuple(options.libraries), hub=HubSettings(**hub))
    found = load_source(settings)
    return Loaded(found.problems[: options.limit], found.left_out if isinstance(found, Loaded) else {})


async def audit_rows(
    problems: Sequence[Problem], settings: SandboxSettings, options: argparse.Namespace, terminal: Terminal
) -> tuple[str, list[RowAudit], Calibration | None]:
    """Isolation level, the rows' audits, in order, with a progress bar, and what the judge knows, where there is one and tests, too."""
    queue = list(enumerate(problems))[::-1]
    rows: dict[int, RowAudit] = {}
    async with _open_judge(options) as judge, Sandbox(settings, judge=judge) as sandbox:
        with closing(Bar(terminal, f"auditing on level {sandbox.backend.level}", len(problems))) as bar:

            async def lane() -> None:
                while queue:
                    index, problem = queue.pop()
                    rows[index] = await audit(sandbox, problem, options.mutants)
                    bar.move(len(rows), len(problems))

            await asyncio.gather(*(lane() for _ in range(PARALLEL)))
            for index, row in rows.items():  # slow references once more, with the machine to themselves
                if any("reference" in fault and ("in time" in fault or "within" in fault) for fault in row.faults):
                    rows[index] = await audit(sandbox, problems[index], options.mutants)
        tested = [problem for index, problem in enumerate(problems) if rows[index].sound and rows[index].trust != "judge"]
        calibration = await calibrate(sandbox, tested, options.judged) if judge is not None and tested else None
        return sandbox.backend.level, [rows[index] for index in range(len(problems))], calibration


@asynccontextmanager
async def _open_judge(options: argparse.Namespace) -> AsyncIterator[Worker | None]:
    if not options.judge_model:
        yield None
        return
    async with open_worker(JudgeSettings(base_url=options.judge_url, model=options.judge_model), print) as judge:
        yield judge


def table(name: str, level: str, found: Loaded, rows: Sequence[RowAudit], judge: Calibration | None) -> str:
    """The audit as Markdown."""
    sound = [row for row in rows if row.sound]
    mutants, killed = sum(row.mutants for row in sound), sum(row.killed for row in sound)
    known = [row for row in rows if row.has_reference]
    references = sum(not any("reference" in fault for fault in row.faults) for row in known)
    lines = [
        f"| {name} | |",
        "|---|---|",
        f"| rows | {len(rows) + len(found.left_out)} |",
        f"| rows that can be judged here | {len(rows)} |",
        f"| references that pass public and hidden tests | {references} of {len(known)} |",
        f"| rows on which no control passes | {sum(not any('passes' in fault for fault in row.faults) for row in rows)} |",
        f"| sound rows written | {len(sound)} |",
        f"| mutants killed by the hidden tests | {killed} of {mutants}" + (f" ({killed / mutants:.1%})" if mutants else "") + " |",
        f"| verdicts | trust {', '.join(sorted({row.trust for row in rows})) or '-'}, isolation {level} |",
    ]
    if judge is not None:
        right, wrong = f"{judge.right_accepted} of {judge.right}", f"{judge.wrong_refused} of {judge.wrong}"
        lines += [
            f"| right answers that the judge accepts, wrong ones that it refuses | {right}, {wrong} |",
            f"| balanced accuracy of the judge, judgements that failed | {judge.agreement:.2f}, {judge.failed} |",
        ]
    excluded = [f"- {row.id}: {'; '.join(row.faults)}" for row in rows if not row.sound]
    excluded += [f"- {row}: {reason}" for row, reason in found.left_out.items()]
    return "\n".join([*lines, "", "Left out:", "", *excluded] if excluded else lines) + "\n"


@one_sentence_errors
def main() -> int:
    """Entry point."""
    options = parser().parse_args()
    found = load_rows(options)
    libraries = find_libraries(found.problems) | set(options.libraries)
    settings = SandboxSettings(
        min_level=options.level,
        verdict_cache_entries=0,
        libraries=tuple(sorted(libraries)),
        limits=LimitSettings(wall_s=options.wall_s, memory_mib=4096 if libraries else 1024),
    )
    terminal = Terminal()
    level, rows, judge = asyncio.run(audit_rows(found.problems, settings, options, terminal))
    out = options.out or Path("data") / options.set
    out.mkdir(parents=True, exist_ok=True)
    write_jsonl(out / "problems.jsonl", [problem for problem, row in zip(found.problems, rows, strict=True) if row.sound])
    report = {"set": options.set, "isolation": level, "rows": [asdict(row) for row in rows], "left_out": dict(found.left_out)}
    report |= {"judge": asdict(judge) | {"agreement": judge.agreement}} if judge is not None else {}
    (out / "audit.json").write_text(json.dumps(report, indent=1))
    text = table(options.set, level, found, rows, judge)
    (out / "audit.md").write_text(text)
    terminal.print(text.split("\nLeft out")[0], soft_wrap=True)
    sound = sum(row.sound for row in rows)
    terminal.print(f"{out / 'problems.jsonl'}: {sound} problems; the others with their reasons: {out / 'audit.md'}", soft_wrap=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
