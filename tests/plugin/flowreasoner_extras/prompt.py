"""A prompt by name: the template is the file beside this one."""

from pathlib import Path

from rollout.prompt.template import PROMPTS

PROMPTS.add("plan_first", Path(__file__).with_name("prompt.jinja"))
