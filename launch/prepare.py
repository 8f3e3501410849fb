"""``python -m launch.prepare SET``: a published task set as ``problems.jsonl``, audited row by row in the sandbox.

Writes into the folder ``--out``: ``problems.jsonl`` (sound rows, our schema: train on it with tasks=jsonl), ``audit.json`` (every
row) and ``audit.md`` (the table, and each row left out with its reason).
"""

import argparse
import asyncio
import json
import sys
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict
from pathlib import Path

from launch.shell import one_sentence_errors
from sandbox.audit import RowAudit, audit, without_tests
from sandbox.sandbox import Sandbox
from sandbox.settings import LimitSettings, SandboxSettings
from trainer.run.terminal import Bar, Terminal
from workflow.problem import Problem
from workflow.registry import load_plugins
from workflow.settings import HubSettings, TaskSettings
from workflow.tasks import TASK_SETS, Loaded, load_source
from workflow.tasks.files import write_jsonl

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
    problems = found.problems if isinstance(found, Loaded) else (*found.train, *found.validation, *found.test)
    return Loaded(problems[: options.limit], found.left_out if isinstance(found, Loaded) else {})


async def audit_rows(
    problems: Sequence[Problem], settings: SandboxSettings, mutants: int, terminal: Terminal
) -> tuple[str, list[RowAudit]]:
    """Isolation level and the rows' audits, in order, with a progress bar."""
    queue = list(enumerate(problems))[::-1]
    rows: dict[int, RowAudit] = {}
    async with Sandbox(settings) as sandbox:
        with closing(Bar(terminal, f"auditing on level {sandbox.backend.level}", len(problems))) as bar:

            async def lane() -> None:
                while queue:
                    index, problem = queue.pop()
                    rows[index] = await audit(sandbox, problem, mutants)
                    bar.move(len(rows), len(problems))

            await asyncio.gather(*(lane() for _ in range(PARALLEL)))
            for index, row in rows.items():  # slow references once more, with the machine to themselves
                if any("reference" in fault and ("in time" in fault or "within" in fault) for fault in row.faults):
                    rows[index] = await audit(sandbox, problems[index], mutants)
        return sandbox.backend.level, [rows[index] for index in range(len(problems))]


def table(name: str, level: str, found: Loaded, rows: Sequence[RowAudit]) -> str:
    """The audit as Markdown."""
    sound = [row for row in rows if row.sound]
    mutants, killed = sum(row.mutants for row in sound), sum(row.killed for row in sound)
    references = sum(not any("reference" in fault for fault in row.faults) for row in rows)
    lines = [
        f"| {name} | |",
        "|---|---|",
        f"| rows | {len(rows) + len(found.left_out)} |",
        f"| rows that can be judged here | {len(rows)} |",
        f"| references that pass public and hidden tests | {references} |",
        f"| public tests left out, since the reference fails them | {sum(len(row.misread) for row in rows)} |",
        f"| rows on which no control passes | {sum(not any('passes' in fault for fault in row.faults) for row in rows)} |",
        f"| sound rows written | {len(sound)} |",
        f"| mutants killed by the hidden tests | {killed} of {mutants}" + (f" ({killed / mutants:.1%})" if mutants else "") + " |",
        f"| verdicts | trust {', '.join(sorted({row.trust for row in rows})) or '-'}, isolation {level} |",
    ]
    excluded = [f"- {row.id}: {'; '.join(row.faults)}" for row in rows if not row.sound]
    excluded += [f"- {row}: {reason}" for row, reason in found.left_out.items()]
    return "\n".join([*lines, "", "Left out:", "", *excluded] if excluded else lines) + "\n"


@one_sentence_errors
def main() -> int:
    """Entry point."""
    options = parser().parse_args()
    found = load_rows(options)
    settings = SandboxSettings(
        min_level=options.level,
        verdict_cache_entries=0,
        libraries=tuple(options.libraries),
        limits=LimitSettings(wall_s=options.wall_s, memory_mib=4096 if options.libraries else 1024),
    )
    terminal = Terminal()
    level, rows = asyncio.run(audit_rows(found.problems, settings, options.mutants, terminal))
    out = options.out or Path("data") / options.set
    out.mkdir(parents=True, exist_ok=True)
    audited = zip(found.problems, rows, strict=True)
    write_jsonl(out / "problems.jsonl", [without_tests(problem, row.misread) for problem, row in audited if row.sound])
    report = {"set": options.set, "isolation": level, "rows": [asdict(row) for row in rows], "left_out": dict(found.left_out)}
    (out / "audit.json").write_text(json.dumps(report, indent=1))
    text = table(options.set, level, found, rows)
    (out / "audit.md").write_text(text)
    terminal.print(text.split("\nLeft out")[0], soft_wrap=True)
    sound = sum(row.sound for row in rows)
    terminal.print(f"{out / 'problems.jsonl'}: {sound} problems; the others with their reasons: {out / 'audit.md'}", soft_wrap=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
