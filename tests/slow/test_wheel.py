"""The package as it is installed: everything that the product needs is in its wheel."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.test_architecture import ORDER

ROOT = Path(__file__).resolve().parents[2]
IMPORT_ALL = """
import importlib, sys
from pathlib import Path
root = Path(sys.argv[1])
from trainer.engines.platform import select_platform
select_platform()
modules = sorted(".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__") for path in root.rglob("*.py"))
for name in modules:
    if name.startswith("workflow.reference.") or name.endswith("__main__"):
        continue  # texts of workflows, not modules
    module = importlib.import_module(name)
    assert Path(module.__file__).is_relative_to(root), f"{name} comes from {module.__file__}"
print(len(modules))
"""
pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of a fresh wheel."""
    work = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "setup.py", "-q", "egg_info", "--egg-base", str(work), "build", "--build-base", str(work / "build")]
    subprocess.run([*command, "bdist_wheel", "--dist-dir", str(work / "dist")], cwd=ROOT, check=True, capture_output=True)
    (wheel,) = (work / "dist").glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(work / "installed")
    return work / "installed"


def product_files(root: Path) -> set[str]:
    """Files of the product's folders, as paths from ``root``."""
    found = (path for folder in ORDER for path in (root / folder).rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {path.relative_to(root).as_posix() for path in found}


def test_every_file_of_the_product_is_in_the_wheel_and_no_other_folder(installed: Path) -> None:
    assert product_files(installed) == product_files(ROOT)
    assert {path.name for path in installed.iterdir() if not path.name.endswith(".dist-info")} == set(ORDER)


def test_every_module_of_the_wheel_can_be_imported_from_it(installed: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    done = subprocess.run(
        [sys.executable, "-c", IMPORT_ALL, str(installed)], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert int(done.stdout.split()[-1]) > 150
