"""The families of metric names (``reward/mean``: family ``reward``), in the panels that a dashboard shows them in."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Panel:
    """Families that belong together, in one section of a dashboard."""

    title: str
    families: tuple[str, ...]
    step: str
    """The metric that counts their steps."""
    by_default: bool = True
    """Whether the section is open when one looks at it first."""


GRPO_STEP, SFT_STEP = "grpo/step", "sft/step"
PANELS = (
    Panel("Validation", ("eval",), GRPO_STEP),
    Panel("Reward and its parts", ("reward",), GRPO_STEP),
    Panel("Outcomes", ("outcome", "tests"), GRPO_STEP),
    Panel("Workflows and calls", ("calls", "workflow", "completion", "worker"), GRPO_STEP),
    Panel("Operators and verifiers", ("operator", "verifier", "worth", "edited", "edit"), GRPO_STEP),
    Panel("Rounds", ("round",), GRPO_STEP, by_default=False),
    Panel("Policy update", ("actor", "rollout_corr", "batch", "learner"), GRPO_STEP),
    Panel("Staleness", ("staleness", "stream"), GRPO_STEP),
    Panel("Time", ("time", "idle"), GRPO_STEP),
    Panel("Engines and weights", ("engines", "publish"), GRPO_STEP),
    Panel("Spend", ("spend",), GRPO_STEP),
    Panel("Alarms and failures", ("alarm", "infra"), GRPO_STEP),
    Panel("Supervised fine-tuning", ("sft",), SFT_STEP, by_default=False),
)
STEPS = {family: panel.step for panel in PANELS for family in panel.families} | {"time/sft_step_s": SFT_STEP}
"""Family (or a whole name that is not its family's) -> the metric that counts its steps."""


def family(metric: str) -> str:
    """The part of a metric's name before the first slash."""
    return metric.partition("/")[0]
