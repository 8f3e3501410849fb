"""Shared by all tests: those marked ``gpu`` skip, with the reason, where there is none."""

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")  # a busy machine is no fault of the code


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Looks for a GPU only where a test asks for one."""
    wanting = [item for item in items if "gpu" in item.keywords]
    if not wanting:
        return
    import torch

    if not torch.cuda.is_available():
        for item in wanting:
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device, and this machine has none"))
