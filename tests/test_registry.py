"""Doors: names that packages add, and ``module:name``."""

import subprocess
import sys
from pathlib import Path

import pytest

from workflow.registry import Registry, load_plugins, nearest

ROOT = Path(__file__).parents[1]


def greet() -> str:
    return "hello"


NOT_ONE = 3


@pytest.fixture
def registry() -> Registry:
    return Registry("reward.kind", {"join": "posixpath:join", "greet": greet})


def test_a_name_finds_what_is_registered_and_what_is_imported_when_asked_for(registry: Registry) -> None:
    assert registry.find("greet") is greet and registry["greet"] is greet
    assert registry.find("join")("a", "b") == "a/b"
    assert list(registry) == ["join", "greet"] and len(registry) == 2 and "greet" in registry


def test_a_decorator_adds_a_name_and_returns_what_it_decorates(registry: Registry) -> None:
    @registry.register("mine")
    def mine() -> int:
        return 1

    assert registry.find("mine") is mine and mine() == 1 and list(registry)[-1] == "mine"


def test_module_and_name_need_no_registration(registry: Registry) -> None:
    assert registry.find(f"{__name__}:greet")() == "hello"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("gret", r"reward.kind=gret is unknown; the nearest is greet: name one of join, greet, or one of your own as module:name\."),
        ("zzz", r"reward.kind=zzz is unknown: name one of"),
        ("no_such_module:f", r"reward.kind=no_such_module:f cannot be imported \(ModuleNotFoundError: No module named 'no_such_module'\)"),
        ("posixpath:no_such", r"cannot be imported \(AttributeError"),
        (f"{__name__}:NOT_ONE", r"NOT_ONE is a int, which this setting has no use for"),
    ],
)
def test_what_cannot_be_found_is_refused_with_a_sentence(registry: Registry, name: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        registry.find(name)
    assert registry.problem(name) and not registry.problem("greet")


def test_two_things_of_one_name_are_refused_and_the_same_one_again_is_not(registry: Registry) -> None:
    registry.add("greet", greet)
    with pytest.raises(ValueError, match=r"reward.kind=greet is registered twice, by .*:greet and by builtins:len: rename one"):
        registry.add("greet", len)


def test_a_module_that_cannot_be_imported_is_named_with_its_setting_and_its_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken_plugin.py").write_text("raise RuntimeError('half written')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ValueError, match=r"'broken_plugin', named by trainer.imports, cannot be imported \(RuntimeError: half written\)"):
        load_plugins(["broken_plugin"])


def printed_beside(plugin: str, code: str, tmp_path: Path) -> str:
    """What a program prints beside an installed package whose entry point is the plug-in."""
    (tmp_path / "announced_plugin.py").write_text(plugin)
    metadata = tmp_path / "announced-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: announced\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[flowreasoner.plugins]\nannounced = announced_plugin\n")
    environment = {"PYTHONPATH": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_an_installed_package_announces_a_module_that_any_lookup_imports(tmp_path: Path) -> None:
    code = (
        "from workflow.registry import Registry\n"
        "REGISTRY = Registry('x.y')\n"
        "print(REGISTRY.find('announced') is print, 'announced' in REGISTRY)"
    )
    plugin = "import sys; sys.modules['__main__'].REGISTRY.add('announced', print)\n"
    assert printed_beside(plugin, code, tmp_path) == "True True"


def test_an_installed_package_may_add_an_operator_whatever_is_imported_first(tmp_path: Path) -> None:
    plugin = (
        "from workflow.operators import OPERATORS, Operator\n"
        "class Hum(Operator):\n"
        "    'Hums.'\n"
        "    system, prompt = 'You hum.', '{text}'\n"
        "    async def __call__(self, text: str) -> str:\n"
        "        return await self._ask(text=text)\n"
        "OPERATORS.add('hum', Hum)\n"
    )
    code = "from workflow.operators import OPERATORS\nOPERATORS.find('generate')\nprint(list(OPERATORS)[0], list(OPERATORS)[-1])"
    assert printed_beside(plugin, code, tmp_path) == "generate hum"


def test_nearest_is_empty_where_nothing_is_like_it() -> None:
    assert nearest("grpoo", ["grpo", "gpg"]) == "grpo" and nearest("zzzz", ["grpo"]) == ""
