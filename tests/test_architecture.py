"""The figure in ARCHITECTURE.md is the law: who imports whom, and which engine stays in which files."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
OUTSIDE = ("benchmarks", "tests")


def import_order() -> list[str]:
    """The folders of the first line of ARCHITECTURE.md that has arrows, left to right."""
    lines = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8").splitlines()
    line = next(line for line in lines if line.startswith("    ") and line.count(" -> ") >= 3)
    return [name.strip() for name in line.split("->")]


ORDER = import_order()


def python_files(folder: str) -> list[Path]:
    return sorted(path for path in (ROOT / folder).rglob("*.py") if "__pycache__" not in path.parts)


def imported_modules(path: Path, root: Path = ROOT) -> Iterator[tuple[int, str]]:
    """(line, dotted name) of every import of a file, wherever it stands and also where it is only for types."""
    package = list(path.relative_to(root).parts[:-1])
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            yield node.lineno, ".".join([*above, *([node.module] if node.module else [])])
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("importlib.import_module", "import_module", "__import__"):
            names = [argument.value for argument in node.args[:1] if isinstance(argument, ast.Constant)]
            yield from ((node.lineno, name) for name in names if isinstance(name, str))


def importers(module: str, folders: list[str]) -> set[str]:
    """Files of the folders that import a top-level module."""
    found = set()
    for folder in folders:
        for path in python_files(folder):
            if any(name.split(".")[0] == module for _, name in imported_modules(path)):
                found.add(path.relative_to(ROOT).as_posix())
    return found


def test_the_order_names_the_folders_that_exist():
    assert ORDER == ["workflow", "sandbox", "reward", "rollout", "trainer", "conf", "launch"]
    for folder in ORDER:
        assert (ROOT / folder / "__init__.py").is_file(), f"{folder}/ has no __init__.py"


@pytest.mark.parametrize("folder", ORDER)
def test_a_folder_imports_only_folders_to_its_left(folder: str):
    forbidden = {*ORDER[ORDER.index(folder) + 1 :], *OUTSIDE}
    wrong = [
        f"{path.relative_to(ROOT)}:{line} imports {name}"
        for path in python_files(folder)
        for line, name in imported_modules(path)
        if name.split(".")[0] in forbidden
    ]
    assert not wrong, "\n".join(wrong)


NEVER = {
    "workflow": ["torch", "ray", "vllm", "verl", "transformers", "deepspeed", "hydra", "wandb"],
    "sandbox": ["torch", "vllm", "verl", "transformers", "deepspeed", "hydra", "wandb"],
    "reward": ["torch", "ray", "vllm", "verl", "transformers", "deepspeed", "hydra", "wandb", "asyncio", "httpx", "openai"],
    "rollout": ["verl", "deepspeed", "hydra", "wandb"],
    "trainer": ["hydra", "vllm"],
    "conf": ["vllm", "verl", "deepspeed", "wandb"],
}


@pytest.mark.parametrize(("folder", "engine"), [(folder, engine) for folder, engines in NEVER.items() for engine in engines])
def test_a_folder_never_imports_a_foreign_engine(folder: str, engine: str):
    assert not importers(engine, [folder])


def test_the_engine_and_what_runs_in_its_workers_import_vllm():
    assert importers("vllm", ORDER) <= {"rollout/engine.py", "rollout/engine_worker.py"}


def test_one_file_imports_wandb():
    assert importers("wandb", ORDER) <= {"trainer/wandb_sink.py"}


def test_one_file_imports_rich_so_that_no_text_of_a_model_is_read_as_markup():
    assert importers("rich", [*ORDER, "benchmarks"]) == {"trainer/terminal.py"}


def test_one_file_imports_deepspeed():
    assert importers("deepspeed", ORDER) <= {"trainer/deepspeed_engine.py"}


def test_only_the_trainer_imports_verl():
    assert all(path.startswith("trainer/") for path in importers("verl", ORDER))


def test_only_the_commands_import_hydra():
    assert all(path.startswith("launch/") for path in importers("hydra", ORDER) | importers("omegaconf", ["workflow", "sandbox", "reward"]))


RAY_FILES = [
    "sandbox/actor.py",
    "sandbox/pool.py",
    "rollout/fleet.py",
    "rollout/slot.py",
    "rollout/engine_handle.py",
    "rollout/weights/*.py",
    "trainer/*.py",
    "launch/*.py",
]


def test_ray_stays_in_the_files_of_actors():
    strays = [path for path in importers("ray", ORDER) if not any(fnmatch(path, pattern) for pattern in RAY_FILES)]
    assert not strays


def guest_files() -> list[Path]:
    return [path for path in python_files("sandbox") if path.name.startswith("guest") or "guest" in path.parent.parts]


def test_what_runs_inside_the_box_is_standard_library_only():
    files = guest_files()
    wrong = [
        f"{path.relative_to(ROOT)}:{line} imports {name}"
        for path in files
        for line, name in imported_modules(path)
        if name.split(".")[0] not in sys.stdlib_module_names and not name.startswith("sandbox.guest")
    ]
    assert not wrong, "\n".join(wrong)


def test_the_first_folders_load_without_any_engine():
    modules = [".".join(path.relative_to(ROOT).with_suffix("").parts) for folder in ("workflow", "reward") for path in python_files(folder)]
    loads = [name.removesuffix(".__init__") for name in modules if ".reference." not in name]
    program = f"import importlib, sys\nfor name in {loads!r}: importlib.import_module(name)\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    assert not {"torch", "ray", "vllm", "verl"} & set(done.stdout.split())


@pytest.mark.parametrize("folder", [*ORDER, "benchmarks"])
def test_files_and_functions_stay_readable(folder: str):
    for path in python_files(folder):
        lines = path.read_text(encoding="utf-8").splitlines()
        name = path.relative_to(ROOT)
        assert len(lines) <= 250, f"{name} has {len(lines)} lines"
        for node in ast.walk(ast.parse("\n".join(lines))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = (node.end_lineno or node.lineno) - node.lineno + 1
                assert length <= 60, f"{name}:{node.lineno} {node.name} has {length} lines"


def test_the_walk_sees_imports_at_all():
    assert "workflow/settings.py" in importers("pydantic", ["workflow"])
    assert "trainer/cluster.py" in importers("ray", ["trainer"])
    assert guest_files()


def test_the_walk_sees_relative_local_and_dynamic_imports(tmp_path: Path):
    file = ROOT / "sandbox" / "records.py"
    assert {name for _, name in imported_modules(file)} >= {"dataclasses", "workflow.outcome"}
    program = tmp_path / "program.py"
    program.write_text("def f():\n    import torch.nn\n    import_module('vllm.x')\n    from ray import init\n")
    assert {name for _, name in imported_modules(program, root=tmp_path)} == {"torch.nn", "vllm.x", "ray"}
