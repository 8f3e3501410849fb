"""The figure in ARCHITECTURE.md is the law: who imports whom, and which engine stays in which files."""

import ast
import re
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


ROOM_NEVER = {
    "trainer/engines": ["trainer.algorithm", "trainer.run", "trainer.cluster", "trainer.learner", "trainer.evaluation"],
    "trainer/algorithm": ["trainer.learner", "trainer.run", "trainer.cluster"],
    "trainer/run": ["trainer.learner", "trainer.metrics", "trainer.evaluation"],
    "workflow/tasks": ["workflow.nano", "workflow.operators"],
    "workflow/verifiers": ["workflow.nano", "workflow.operators", "workflow.tasks", "workflow.language"],
    "workflow/worker": ["workflow.nano", "workflow.tasks", "workflow.language"],
    "rollout/engines": ["rollout.fleet", "rollout.groups"],
    "rollout/weights": ["rollout.fleet", "rollout.engines", "rollout.groups"],
}
"""Rooms that do not know of others, although they stand in the same folder."""


@pytest.mark.parametrize(("room", "others"), ROOM_NEVER.items())
def test_a_room_never_imports_what_it_must_not_know(room: str, others: list[str]):
    assert python_files(room), f"there is no {room}/"
    wrong = [
        f"{path.relative_to(ROOT)}:{line} imports {name}"
        for path in python_files(room)
        for line, name in imported_modules(path)
        if any(name == other or name.startswith(f"{other}.") for other in others)
    ]
    assert not wrong, "\n".join(wrong)


def module_graph(folders: list[str]) -> dict[str, set[str]]:
    """Which module of the folders imports which, wherever the import stands."""
    files = [path for folder in folders for path in python_files(folder)]
    paths = {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path for path in files}
    graph: dict[str, set[str]] = {}
    for module, path in paths.items():
        named = {f"{name}.{alias}" for name, aliases in imported_names(path) for alias in aliases}
        named |= {name for _, name in imported_modules(path)}
        graph[module] = {name for name in named if name in paths and name != module}
    return graph


def imported_names(path: Path) -> Iterator[tuple[str, list[str]]]:
    """(module, names) of every ``from module import names``."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module, [alias.name for alias in node.names]


def circles(graph: dict[str, set[str]]) -> list[tuple[str, ...]]:
    """Modules that reach themselves, in groups that reach each other."""
    reached: dict[str, set[str]] = {}
    for start in graph:
        seen: set[str] = set()
        waiting = list(graph[start])
        while waiting:
            if (name := waiting.pop()) not in seen:
                seen.add(name)
                waiting += graph.get(name, ())
        reached[start] = seen
    return sorted({tuple(sorted(other for other in reached[one] if one in reached.get(other, ()))) for one in graph if one in reached[one]})


def test_no_module_imports_itself_by_way_of_others():
    graph = module_graph([*ORDER, "benchmarks"])
    assert len(graph) > 150 and circles(graph) == []


def rooms(graph: dict[str, set[str]], folder: str) -> dict[str, set[str]]:
    """Which room (folder inside the folder) uses which; files of the hall belong to none."""
    names = {f"{folder}.{path.name}" for path in (ROOT / folder).iterdir() if (path / "__init__.py").is_file()}
    out: dict[str, set[str]] = {name: set() for name in names}
    for module, used in graph.items():
        ours = ".".join(module.split(".")[:2])
        if ours in names:
            out[ours] |= {room for other in used if (room := ".".join(other.split(".")[:2])) in names and room != ours}
    return out


@pytest.mark.parametrize("folder", ORDER)
def test_no_room_uses_itself_by_way_of_others(folder: str):
    assert circles(rooms(module_graph([folder]), folder)) == []


def test_the_trainers_hall_stays_small():
    files = [path.name for path in (ROOT / "trainer").glob("*.py") if path.name != "__init__.py"]
    assert len(files) <= 8, files


def names_demo(path: Path) -> Iterator[str]:
    """Where a file of Python imports the demo, or has its name in a text or as an identifier."""
    for line, name in imported_modules(path):
        if "nano" in name.split("."):
            yield f"{path.relative_to(ROOT)}:{line} imports {name}"
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        said = node.value if isinstance(node, ast.Constant) else node.id if isinstance(node, ast.Name) else ""
        if isinstance(said, str) and "nano" in re.split(r"[\W_]+", said.lower()):
            yield f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 0)} says {said[:80]!r}"


def test_only_the_demo_and_conf_name_the_demo():
    """It comes in as anybody's package does: its plug-in registers it, and the groups of conf/ choose it."""
    files = [path for folder in ORDER if folder != "conf" for path in python_files(folder)]
    outside = [path for path in files if "nano" not in path.relative_to(ROOT).parts]
    assert [said for path in outside for said in names_demo(path)] == []
    assert list(names_demo(ROOT / "rollout" / "nano" / "plugin.py")) and list(names_demo(ROOT / "conf" / "schema.py"))


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
    assert importers("vllm", ORDER) <= {"rollout/engines/vllm/backend.py", "rollout/engines/vllm/worker.py"}


def test_one_file_imports_wandb():
    assert importers("wandb", ORDER) <= {"trainer/run/wandb_sink.py"}


def test_one_file_imports_rich_so_that_no_text_of_a_model_is_read_as_markup():
    assert importers("rich", [*ORDER, "benchmarks"]) == {"trainer/run/terminal.py"}


def test_one_file_imports_deepspeed():
    assert importers("deepspeed", ORDER) <= {"trainer/engines/deepspeed.py"}


def test_only_the_trainer_imports_verl():
    assert all(path.startswith("trainer/") for path in importers("verl", ORDER))


def test_only_the_commands_import_hydra():
    assert all(path.startswith("launch/") for path in importers("hydra", ORDER) | importers("omegaconf", ["workflow", "sandbox", "reward"]))


RAY_FILES = [
    "sandbox/actor.py",
    "sandbox/pool.py",
    "sandbox/shared_budget.py",
    "rollout/engines/ray_engine.py",
    "sandbox/supervise.py",
    "rollout/fleet/*.py",
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
    assert "trainer/cluster/session.py" in importers("ray", ["trainer"])
    assert guest_files()


def test_the_walk_sees_relative_local_and_dynamic_imports(tmp_path: Path):
    file = ROOT / "sandbox" / "records.py"
    assert {name for _, name in imported_modules(file)} >= {"dataclasses", "workflow.outcome"}
    program = tmp_path / "program.py"
    program.write_text("def f():\n    import torch.nn\n    import_module('vllm.x')\n    from ray import init\n")
    assert {name for _, name in imported_modules(program, root=tmp_path)} == {"torch.nn", "vllm.x", "ray"}
