"""A run folder as a finished run leaves it, with made-up but plausible figures."""

import json
import math
import random
from pathlib import Path
from typing import Any

import yaml

from tests.demo import DEMO
from trainer.settings import RunSettings

LEVELS = range(1, 7)
TEST_LOOP = """class Workflow:
    async def __call__(self, problem):
        answer = await self.generate(problem)
        for _ in range({rounds}):
            report = await self.test(problem, answer)
            if report.passed:
                break
            answer = await self.revise(problem, answer, report.feedback)
        return answer"""
REVIEW_LOOP = """class Workflow:
    async def __call__(self, problem):
        answer = await self.generate(problem)
        for _ in range({rounds}):
            note = await self.review(problem, answer)
            if note.approved:
                break
            answer = await self.revise(problem, answer, note.feedback)
        return answer"""
SINGLE = """class Workflow:
    async def __call__(self, problem):
        return await self.generate(problem)"""
ENSEMBLE = """class Workflow:
    async def __call__(self, problem):
        drafts = await asyncio.gather(*[self.generate(problem) for _ in range(3)])
        return await self.ensemble(problem, drafts)"""


def settings(path: Path, **trainer: Any) -> RunSettings:
    """The demo's settings in that folder, without W&B."""
    trainer_settings = DEMO.trainer.model_copy(update={"run_dir": str(path), **trainer})
    logger = DEMO.logger.model_copy(update={"wandb": "off"})
    return RunSettings(**(dict(DEMO) | {"trainer": trainer_settings, "logger": logger}))


def write_run(path: Path, *, steps: int = 80, evaluated: bool = True, seed: int = 0) -> Path:
    """Writes a run folder and returns it."""
    rng = random.Random(seed)
    path.mkdir(parents=True, exist_ok=True)
    config = settings(path).model_dump(mode="json")
    config["reward"]["weights"]["my_terms:politeness"] = -0.03  # a user's own
    (path / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    rows = [{"stage": "sft", "step": i, "sft/loss": 3.0 * math.exp(-i / 30) + 0.6 + rng.gauss(0, 0.03)} for i in range(200)]
    rows += [_grpo_row(rng, step, steps) for step in range(steps)]
    _jsonl(path / "metrics.jsonl", rows)
    _jsonl(path / "episodes.jsonl", [_episode(rng, step, index) for step in range(steps) for index in range(24)])
    outcomes = ["passed"] * 60 + ["wrong_answer"] * 38 + ["crashed"] * 2
    _jsonl(path / "traces.jsonl", [{"index": i, "outcome": rng.choice(outcomes)} for i in range(500)])
    if evaluated:
        (path / "results.json").write_text(json.dumps({"rows": final_rows(), "wall_s": 583.2, "steps": steps}))
    return path


def _jsonl(file: Path, rows: list[dict[str, Any]]) -> None:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))


def _grpo_row(rng: random.Random, step: int, steps: int) -> dict[str, Any]:
    done = 1 - math.exp(-3 * step / max(1, steps))
    passed = 0.62 + 0.2 * done + rng.gauss(0, 0.02)
    broken = 0.04 * (1 - done) + 0.005
    row: dict[str, Any] = {
        "stage": "grpo",
        "step": step,
        "policy": "nano",
        "reward/mean": 0.58 + 0.17 * done + rng.gauss(0, 0.02),
        "reward/performance": 0.75 + 0.12 * done + rng.gauss(0, 0.015),
        "reward/complexity": 0.5 - 0.1 * done + rng.gauss(0, 0.02),
        "reward/calls": 2.2 - 0.8 * done + rng.gauss(0, 0.05),
        "reward/politeness": 1.0 + 0.8 * done + rng.gauss(0, 0.05),
        "operator/generate": 0.98,
        "operator/test": 0.4 + 0.2 * done,
        "operator/review": 0.5 - 0.2 * done,
        "operator/haggle": 0.1 * done,
        "operator/answer": 0.0,
        "verifier/function": passed,
        "verifier/unit": passed - 0.1,
        "outcome/passed": passed,
        "outcome/crashed": broken,
        "outcome/no_workflow": broken / 2,
        "outcome/forbidden": broken / 3,
        "outcome/infra_error": 0.0,
        "workflow/valid": 0.96 + 0.035 * done,
        "calls/mean": 3.1 - 0.7 * done,
        "actor/kl": 0.03 * done + abs(rng.gauss(0, 0.002)),
        "actor/entropy": 0.9 - 0.5 * done + rng.gauss(0, 0.02),
        "actor/grad_norm": 0.4 + abs(rng.gauss(0, 0.1)),
        "time/sample_s": 1.0 + abs(rng.gauss(0, 0.1)),
        "time/run_s": 2.0 + abs(rng.gauss(0, 0.2)),
        "time/judge_s": 0.5 + abs(rng.gauss(0, 0.05)),
        "time/update_s": 1.4 + abs(rng.gauss(0, 0.1)),
        "time/publish_s": 0.1,
        "time/step_s": 5.2,
    }
    row["outcome/wrong_answer"] = 1 - sum(value for name, value in row.items() if name.startswith("outcome/"))
    row |= {f"calls/level_{level}": 2.5 + (level - 3.5) * 0.55 * done + rng.gauss(0, 0.1) for level in LEVELS}
    if (step + 1) % 20 == 0:
        row |= {"eval/reward": 0.6 + 0.16 * done, "eval/pass_rate": passed}
    return row


def _episode(rng: random.Random, step: int, index: int) -> dict[str, Any]:
    level, has_examples = 1 + index % 6, index % 2 == 0
    rounds = max(1, level // 2)
    source = (TEST_LOOP if has_examples else REVIEW_LOOP).format(rounds=rounds)
    source = SINGLE if level <= 2 and not has_examples else ENSEMBLE if rng.random() < 0.1 else source
    examples = "with examples" if has_examples else "no examples"
    text = f"{level} steps, {level // 3} tricky, {examples}. Plan: draft, check and revise up to {rounds} times.\n```python\n{source}\n```"
    outcome = "passed" if rng.random() < 1 - level * 0.06 else "wrong_answer"
    return {
        "id": f"train-{step}/{index}",
        "problem": f"nano/train/{index}",
        "step": step,
        "level": level,
        "has_examples": has_examples,
        "text": text,
        "outcome": outcome,
        "fingerprint": str(hash(source)),
        "runs": [{"outcome": outcome, "calls": 1 + rounds, "test_runs": rounds if has_examples else 0}],
    }


def final_rows() -> list[dict[str, Any]]:
    """A final table as trainer.evaluation.result_row makes its rows."""
    table = [
        _result("SFT policy", "policy", 0.612, 0.74, 3.4, 0.0),
        _result("SFT policy (sampled)", "policy", 0.571, 0.71, 3.5, 0.0),
        _result("GRPO policy", "policy", 0.768, 0.853, 2.51, 0.62),
        _result("GRPO policy (sampled)", "policy", 0.751, 0.841, 2.55, 0.6),
        _result("single_call", "workflow", 0.597, 0.6, 1.0, 0.0),
        _result("chain_of_thought", "workflow", 0.588, 0.6, 1.0, 0.0),
        _result("self_consistency", "workflow", 0.571, 0.65, 4.0, 0.0),
        _result("self_refine", "workflow", 0.641, 0.73, 2.4, 0.2),
        _result("self_refine_3", "workflow", 0.666, 0.79, 3.6, 0.3),
        _result("test_and_revise_2", "workflow", 0.652, 0.77, 2.2, 0.3),
        _result("debate", "workflow", 0.502, 0.68, 6.0, 0.0),
    ]
    best = _result("best fixed workflow", "workflow", 0.666, 0.79, 3.6, 0.3) | {"of": "self_refine_3"}
    per_level = _result("best reference per level", "choice", 0.764, 0.845, 2.46, 0.6)
    choice = {f"level {level}, with examples": "test_and_revise_2" for level in LEVELS}
    trust = {"problems": 1200, "runs": 12400, "noise": 0.002, "optimism": 0.011}
    equal = _result("self-consistency at equal cost", "workflow", 0.588, 0.66, 2.6, 0.1) | {
        "of": "2 samples, for the dollars of GRPO policy"
    }
    bound = _result("hindsight bound", "bound", 0.86, 0.94, 2.1, 0.4)
    for row in (*table, per_level, equal):
        row["minus"] = {"of": "best fixed workflow", "problems": 240}
        for measure, other in (("reward", 0.666), ("pass_rate", 0.79), ("solved", 0.78)):
            difference = round(float(row[measure]) - other, 4)
            row["minus"] |= {measure: difference, f"{measure}_ci": [difference - 0.04, difference + 0.04], f"{measure}_p": 0.0012}
    return [*table, best | {"choice": trust}, per_level | {"of": choice, "choice": trust}, bound, equal]


def _result(name: str, kind: str, reward: float, passed: float, calls: float, slope: float) -> dict[str, Any]:
    def measures(shift: float, more_calls: float) -> dict[str, Any]:
        value = reward + shift
        return {
            "problems": 40,
            "reward": round(value, 4),
            "reward_ci": [round(value - 0.03, 4), round(value + 0.03, 4)],
            "pass_rate": min(1.0, max(0.0, passed + shift)),
            "solved": min(1.0, max(0.0, passed + shift - 0.01)),
            "pass_rate_ci": [max(0.0, passed + shift - 0.04), min(1.0, passed + shift + 0.04)],
            "calls": round(max(1.0, calls + more_calls), 3),
            "cost": 0.00011 * calls,
        }

    by_level = {
        str(level): {
            **measures(0.07 * (3.5 - level), slope * (level - 3.5)),
            "with_examples": measures(0.07 * (3.5 - level) + 0.03, slope * (level - 3.5) + 0.2),
            "without_examples": measures(0.07 * (3.5 - level) - 0.03, slope * (level - 3.5) - 0.2),
        }
        for level in LEVELS
    }
    terms = {"performance": passed, "calls": calls - 1, "politeness": 1.5}
    return {"name": name, "kind": kind, **measures(0.0, 0.0), "problems": 240, "terms": terms, "by_level": by_level}
