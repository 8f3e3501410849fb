"""What a workflow in AFlow's form imports and constructs: operators as stubs, an LLM that keeps the bill, its prompt module."""

import ast
import builtins
import sys
import types
from collections.abc import Callable
from typing import Any

SHIMS = ("operator", "prompt", "llm_provider_registry", "cost_manager", "async_llm", "evaluator")
"""Last parts of the module paths that such files import, whatever stands before."""


class CostManager:
    """Keeps the run's bill in dollars."""

    def __init__(self) -> None:
        self.total_cost = 0.0


class LLM:
    """Stands for the worker; what it asks directly goes through Custom."""

    def __init__(self, ask: Callable[..., Any]) -> None:
        self.cost_manager = CostManager()
        self._ask = ask

    async def aask(self, prompt: str, *args: Any, **kwargs: Any) -> str:
        return (await self._ask(self, "Custom", (), {"input": prompt}))["response"]

    __call__ = aask

    def get_usage_summary(self) -> dict[str, float]:
        """As newer AFlow files ask for the cost."""
        return {"total_cost": self.cost_manager.total_cost}


def load(source: str, prompts: str, operators: list[str], ask: Callable[[LLM, str, tuple[Any, ...], dict[str, Any]], Any]) -> Any:
    """The workflow object of an AFlow file. ``ask`` makes one operator call and adds its cost to the LLM's bill."""
    created: list[LLM] = []

    def create_llm_instance(*_: Any, **__: Any) -> LLM:
        created.append(LLM(ask))
        return created[-1]

    operator_module = types.ModuleType("operator")
    for name in operators:
        setattr(operator_module, name, _operator(name, ask))
    prompt_module = types.ModuleType("prompt")
    prompt_module.__dict__["__builtins__"] = builtins
    exec(compile(prompts, "<prompt>", "exec", dont_inherit=True), prompt_module.__dict__)
    others = types.ModuleType("metagpt")
    others.__dict__.update(create_llm_instance=create_llm_instance, CostManager=CostManager, DatasetType=str)
    for path in _find_imports(source):
        last = path.rpartition(".")[2]
        _install(path, operator_module if last == "operator" else prompt_module if last == "prompt" else others)
    namespace: dict[str, Any] = {"__name__": "graph", "__builtins__": builtins}
    exec(compile(source, "<graph>", "exec", dont_inherit=True), namespace)
    return namespace["Workflow"]("workflow", {}, "dataset")


def _operator(name: str, ask: Callable[..., Any]) -> type:
    class Stub:
        def __init__(self, llm: LLM, *args: Any, **kwargs: Any) -> None:
            self.llm = llm

        async def __call__(self, *args: Any, **kwargs: Any) -> Any:
            return await ask(self.llm, name, args, kwargs)

    Stub.__name__ = name
    return Stub


def _find_imports(source: str) -> list[str]:
    """Module paths of more than one part, or of one of ours, that the source imports and that end on a shim."""
    paths: list[str] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            paths += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            paths += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return [path for path in paths if path.rpartition(".")[2] in SHIMS and ("." in path or path == "prompt")]


def _install(path: str, module: types.ModuleType) -> None:
    """Makes ``import path`` find the module, with a package for each part before it."""
    parts = path.split(".")
    for count in range(1, len(parts)):
        name = ".".join(parts[:count])
        package = sys.modules.get(name)
        if package is None:
            package = sys.modules[name] = types.ModuleType(name)
            package.__path__ = []
            if count > 1:
                setattr(sys.modules[".".join(parts[: count - 1])], parts[count - 1], package)
    sys.modules[path] = module
    if len(parts) > 1:
        setattr(sys.modules[".".join(parts[:-1])], parts[-1], module)
