"""Commands. Importing this package checks that Python finds the packages, and of top-level ones ours."""

import sys
from importlib.util import find_spec
from pathlib import Path
from typing import NoReturn

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("workflow", "sandbox", "reward", "rollout", "trainer", "conf")


def intruders(root: Path = ROOT, packages: tuple[str, ...] = PACKAGES) -> list[str]:
    """One line for each of our generic package names that resolves to something else."""
    found: list[str] = []
    for name in packages:
        spec = find_spec(name)
        places = [spec.origin] if spec and spec.origin else list(spec.submodule_search_locations or []) if spec else []
        if not any(place and Path(place).resolve().is_relative_to(root) for place in places):
            found.append(f"package {name!r} resolves to {places[0] if places else 'nothing'}, not to {root / name}")
    return found


def _refuse(sentence: str) -> NoReturn:
    print(sentence, file=sys.stderr)
    sys.exit(2)


def _check() -> None:
    if find_spec("hydra") is None or find_spec("ray") is None:
        _refuse(
            f"{sys.executable} does not have this project's packages: make them with `make env` and use .venv/bin/python. A submitted job "
            "takes the cluster's python unless the command names another by its full path: ray job submit ... -- $PWD/.venv/bin/python -m "
            "launch.train ..."
        )
    wrong = intruders()
    if wrong:
        _refuse(
            f"{'; '.join(wrong)}: another package of that name comes first on Python's path. "
            f"Run commands as `python -m launch.X` in {ROOT}, or uninstall the other package."
        )


_check()
