"""A task set: capitals of countries. Each problem names the verifier that judges its answers."""

from collections.abc import Iterator

from workflow.problem import Problem
from workflow.settings import TaskSettings
from workflow.tasks import TASK_SETS

CAPITALS = {"France": "Paris", "Peru": "Lima", "Kenya": "Nairobi", "Japan": "Tokyo", "Ghana": "Accra", "Cuba": "Havana"}


@TASK_SETS.register("capitals")
def make_capitals(settings: TaskSettings, /) -> Iterator[Problem]:
    """One problem a country; they are split into training, validation and test problems as ``tasks.splits`` says."""
    for country, capital in CAPITALS.items():
        query = f"What is the capital of {country}?"
        yield Problem(f"capitals/{country}", query, "", (), (capital,), reference=capital, verifier="exact", source="capitals")
