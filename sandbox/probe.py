"""What this machine offers a sandbox, and what to change to get more. Probes only; nothing is switched on."""

import asyncio
import os
import platform
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from sandbox.backend import LEVELS, ROOT, ZygoteBackend
from sandbox.guest import landlock
from sandbox.settings import SandboxSettings

APPARMOR = Path("/proc/sys/kernel/apparmor_restrict_unprivileged_userns")
USER_NAMESPACES = (Path("/proc/sys/user/max_user_namespaces"), Path("/proc/sys/kernel/unprivileged_userns_clone"))
CONTAINER_REMEDY = (
    "in a container: docker run --security-opt seccomp=unconfined --security-opt apparmor=unconfined --security-opt "
    "systempaths=unconfined; on Kubernetes: hostUsers: false with securityContext seccompProfile.type: Unconfined, "
    "appArmorProfile.type: Unconfined and procMount: Unmasked"
)


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    name: str
    good: bool
    value: str
    remedy: str = ""
    """What to change; empty where nothing needs to be."""


def kernel() -> list[Finding]:
    """Kernel facilities that isolation is made of."""
    machine = platform.machine()
    supported = machine in ("x86_64", "aarch64")
    return [
        Finding("kernel", sys.platform == "linux", f"{platform.release()} on {machine}", "" if supported else "use x86_64 or aarch64"),
        _user_namespaces(),
        _landlock(),
        _seccomp(),
        _cgroups(),
    ]


def _user_namespaces() -> Finding:
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from sandbox.guest import jail; "
    code += "jail.unshare(jail.CLONE_NEWUSER | jail.CLONE_NEWNS)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30)
    if done.returncode == 0:
        return Finding("user namespaces", True, "available")
    remedy = CONTAINER_REMEDY
    if _read(APPARMOR) == "1":
        remedy = "Ubuntu's AppArmor forbids them: sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0"
    elif "0" in map(_read, USER_NAMESPACES):
        remedy = "sudo sysctl user.max_user_namespaces=65536 kernel.unprivileged_userns_clone=1"
    lines = done.stderr.strip().splitlines()
    return Finding("user namespaces", False, lines[-1] if lines else "refused", remedy)


def _landlock() -> Finding:
    abi = landlock.abi()
    remedy = "Linux 5.13 or newer with CONFIG_SECURITY_LANDLOCK, and landlock in the boot option lsm="
    return Finding("Landlock", abi > 0, f"ABI {abi}" if abi else "not available", "" if abi else remedy)


def _seccomp() -> Finding:
    actions = _read(Path("/proc/sys/kernel/seccomp/actions_avail"))
    good = "errno" in actions
    return Finding("seccomp", good, actions or "not available", "" if good else "a kernel with CONFIG_SECCOMP_FILTER")


def _cgroups() -> Finding:
    """Not needed: address space, processes and files are limited without them."""
    root = Path("/sys/fs/cgroup")
    version = "v2" if (root / "cgroup.controllers").exists() else "v1" if root.is_dir() else "none"
    return Finding(
        "cgroups", True, f"{version}, {'writable' if os.access(root, os.W_OK) else 'read-only'} (not used: limits are per process)"
    )


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""


async def levels() -> list[Finding]:
    """Starts a sandbox of each level, strongest first, and lets the canaries say whether it holds."""
    found = []
    for level in reversed(LEVELS):
        backend = ZygoteBackend(SandboxSettings(), (level,))
        try:
            await asyncio.wait_for(backend.start(), 60)
            holds = "starts, and its canaries are silent" if level != "unsafe" else "starts, and confines nothing: not for training"
            found.append(Finding(f"level {level}", True, holds))
        except (ValueError, TimeoutError, OSError) as error:
            found.append(Finding(f"level {level}", False, str(error)[:400], CONTAINER_REMEDY if level == "namespace" else ""))
        finally:
            await backend.close()
    return found
