"""Which device verl runs on. Imports nothing of verl: its platform is fixed by the environment when it is first imported."""

import os

OURS = "trainer.engines.cpu_platform"


def verl_environment(device: str) -> dict[str, str]:
    """Environment of a process whose verl is to run on ``device`` (``cpu`` or ``cuda``); set it before verl is imported."""
    modules = [name for name in os.environ.get("VERL_USE_EXTERNAL_MODULES", "").split(",") if name and name != OURS]
    return {
        "VERL_USE_EXTERNAL_MODULES": ",".join([OURS, *modules]),  # what the user has verl import stays
        "VERL_PLATFORM": "cpu" if device == "cpu" else "",
        "VERL_LOGGING_LEVEL": os.environ.get("VERL_LOGGING_LEVEL", "WARN"),
    }


def select_platform() -> None:
    """Lets verl run in this process: on the CPU where there is no GPU. An environment that names a platform is left alone."""
    if not os.environ.get("VERL_PLATFORM"):
        import torch

        os.environ.update(verl_environment("cuda" if torch.cuda.is_available() else "cpu"))
