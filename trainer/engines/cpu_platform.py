"""verl on a machine without accelerator: a platform plug-in for the device ``cpu``.

verl loads this module by name (``VERL_USE_EXTERNAL_MODULES``) while its own package is being imported, so nothing
of verl but the plug-in interface is imported here. ``trainer.engines.platform`` says what to set before verl is imported.
"""

from contextlib import nullcontext
from types import ModuleType
from typing import Any

import psutil
import torch
from verl.plugin.platform.platform_base import PlatformBase
from verl.plugin.platform.platform_manager import PlatformRegistry


class CPUDeviceModule(ModuleType):
    """``torch.cpu`` with the calls that verl expects of ``torch.cuda``; memory figures are 0, a CPU has no pool."""

    def __init__(self) -> None:
        super().__init__("verl_cpu_device")

    def __getattr__(self, name: str) -> Any:
        return getattr(torch.cpu, name)

    def empty_cache(self) -> None:
        """Nothing is cached."""

    def memory_allocated(self, device: object = None) -> int:
        """0: there is no device memory."""
        return 0

    memory_reserved = max_memory_allocated = max_memory_reserved = memory_allocated

    def mem_get_info(self, device: object = None) -> tuple[int, int]:
        """Bytes free and in all, of main memory."""
        memory = psutil.virtual_memory()
        return memory.available, memory.total

    def get_rng_state(self) -> torch.Tensor:
        """State of the one generator that there is."""
        return torch.get_rng_state()

    def set_rng_state(self, state: torch.Tensor) -> None:
        """Restores what ``get_rng_state`` returned."""
        torch.set_rng_state(state)


@PlatformRegistry.register(platform="cpu")
class CPUPlatform(PlatformBase):
    """Ranks that compute on cores and talk over gloo."""

    _module = CPUDeviceModule()

    @property
    def device_name(self) -> str:
        return "cpu"

    @property
    def vendor_name(self) -> str:
        return "cpu"

    @property
    def device_module(self) -> ModuleType:
        return self._module

    def is_available(self) -> bool:
        return True

    def is_platform_available(self, use_smi_check: bool = False) -> bool:
        """False: never picked by itself, only by ``VERL_PLATFORM``."""
        return False

    def current_device(self) -> Any:
        """A device name: verl passes it to ``Tensor.to``, where an index would mean a GPU."""
        return "cpu"

    def device_count(self) -> int:
        return 1

    def set_device(self, device_index: int) -> None:
        """There is one device."""

    def synchronize(self, device_index: int | None = None) -> None:
        """Work is done when the call returns."""

    def manual_seed(self, seed: int) -> None:
        torch.manual_seed(seed)

    def manual_seed_all(self, seed: int) -> None:
        torch.manual_seed(seed)

    def set_allocator_settings(self, settings: str) -> None:
        """The allocator of a CPU has none."""

    def empty_cache(self) -> None:
        """Nothing is cached."""

    def get_device_capability(self, device_index: int = 0) -> tuple[int | None, int | None]:
        return None, None

    def communication_backend_name(self) -> str:
        return "gloo"

    def visible_devices_envvar(self) -> str:
        return "CPU_VISIBLE_DEVICES"

    def nvtx_range(self, msg: str) -> Any:
        """A context manager that does nothing."""
        return nullcontext()

    def profiler_start(self) -> None:
        """No device profiler."""

    def profiler_stop(self) -> None:
        """No device profiler."""

    def ray_resource_name(self) -> str:
        return "CPU"

    def ray_resource_options(self, num_gpus: float) -> dict[str, Any]:
        """Asked only for ranks on GPUs, by a driver that has none itself."""
        return {"num_gpus": num_gpus}

    def ray_noset_envvars(self) -> list[str]:
        return []

    def is_ipc_supported(self) -> bool:
        return False

    def cudart(self) -> Any:
        return None
