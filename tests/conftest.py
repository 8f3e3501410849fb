"""Shared by all tests: whole folders are slow; those marked ``gpu`` skip, with the reason, where there is none.

What tests measured (the fixture ``show``) is printed at the end.
"""

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")  # a busy machine is no fault of the code

SLOW_FOLDERS = {Path(__file__).parent / name for name in ("slow", "cluster", "faults")}


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks what starts Ray, vLLM or verl as slow; looks for a GPU only where a test asks for one."""
    for item in items:
        if SLOW_FOLDERS & set(item.path.parents):
            item.add_marker(pytest.mark.slow)
    wanting = [item for item in items if item.get_closest_marker("gpu")]  # keywords hold the names of folders too
    if not wanting:
        return
    import torch

    if not torch.cuda.is_available():
        for item in wanting:
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device, and this machine has none"))


@pytest.fixture
def show(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Keeps a line for the end of the tests' output, also where another process runs the test."""
    return lambda line: request.node.user_properties.append(("shown", line))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Prints what tests have to show."""
    reports = [report for kind in ("passed", "failed") for report in terminalreporter.getreports(kind)]
    shown = [(report.nodeid.partition("::")[2], value) for report in reports for key, value in report.user_properties if key == "shown"]
    if shown:
        terminalreporter.section("measured")
        terminalreporter.write_line("\n".join(f"{test}: {line}" for test, line in shown))
