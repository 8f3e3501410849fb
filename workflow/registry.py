"""The doors: a setting names a thing by a registered name, or as ``module:name``; packages add names without a change here.

A module registers what it adds when it is imported. Two ways lead to its import: the setting ``trainer.imports``, and an entry point of the
group ``flowreasoner.plugins`` in an installed package. Every process of a run imports them before it looks a name up.
"""

import difflib
import importlib
import pkgutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from importlib.metadata import entry_points
from typing import Any, Generic, TypeVar

GROUP = "flowreasoner.plugins"
"""Entry points of this group are modules that register something."""
T = TypeVar("T")
_loaded: set[str] = set()


def load_plugins(modules: Iterable[str] = ()) -> None:
    """Imports the modules, and those that installed packages announce; each once in a process.

    Args:
        modules: ``trainer.imports``.

    Raises:
        ValueError: one of them cannot be imported.
    """
    for module, source in [*_find_announced().items(), *((module, "trainer.imports") for module in modules)]:
        if module in _loaded:
            continue
        try:
            importlib.import_module(module.partition(":")[0])
        except Exception as error:  # a module of the user's may raise anything
            raise ValueError(
                f"{module!r}, named by {source}, cannot be imported ({type(error).__name__}: {error}): correct it, install its package "
                "for every node, or put its folder on PYTHONPATH."
            ) from error
        _loaded.add(module)


@cache
def _find_announced() -> dict[str, str]:
    """What installed packages announce, with where; read once, since it looks into every package."""
    return {entry.value: f"the entry point {entry.name!r} of {GROUP}" for entry in entry_points(group=GROUP)}


def nearest(name: str, known: Iterable[str], cutoff: float = 0.6) -> str:
    """The known name most like another one; empty where none is like it."""
    return next(iter(difflib.get_close_matches(name, list(known), n=1, cutoff=cutoff)), "")


def short_name(name: str) -> str:
    """What a thing is called in metrics and figures: of ``module:name`` the part after the colon."""
    return name.rpartition(":")[2]


class Registry(Mapping[str, T], Generic[T]):
    """Things of one kind by name, in the order in which they were registered."""

    def __init__(self, setting: str, known: Mapping[str, T | str] | None = None, *, is_one: Callable[[Any], bool] = callable) -> None:
        """
        Args:
            setting: the setting that names one of them, for messages.
            known: what there is from the start; a text is ``module:name``, imported when it is first asked for.
            is_one: whether something found as ``module:name`` is of this kind.
        """
        self._setting = setting
        self._known: dict[str, T | str] = dict(known or {})
        self._is_one = is_one

    def register(self, name: str) -> Callable[[T], T]:
        """A decorator that adds what it decorates.

        Raises:
            ValueError: the name is taken by something else.
        """

        def add(thing: T) -> T:
            self.add(name, thing)
            return thing

        return add

    def add(self, name: str, thing: T | str) -> None:
        """What ``register`` does, as a call; a text is ``module:name``, imported when it is first asked for."""
        there = self._known.get(name)
        if there is not None and _place(there) != _place(thing):
            raise ValueError(f"{self._setting}={name} is registered twice, by {_place(there)} and by {_place(thing)}: rename one of them.")
        self._known[name] = thing

    def find(self, name: str) -> T:
        """The thing of a registered name or of ``module:name``.

        Raises:
            ValueError: there is none, with the nearest known name; or its module cannot be imported.
        """
        load_plugins()
        if name in self._known:
            return self[name]
        if ":" in name:
            return self._resolve(name)
        near = nearest(name, self._known)
        hint = f"; the nearest is {near}" if near else ""
        raise ValueError(
            f"{self._setting}={name} is unknown{hint}: name one of {', '.join(self._known)}, or one of your own as module:name."
        )

    def problem(self, name: str) -> str:
        """What ``find`` would raise for this name; empty where it finds something. What is registered is not imported for it."""
        load_plugins()
        try:
            if name not in self._known:
                self.find(name)
        except ValueError as error:
            return str(error)
        return ""

    def _resolve(self, place: str) -> T:
        try:
            found = pkgutil.resolve_name(place)
        except Exception as error:  # a module of the user's may raise anything
            raise ValueError(f"{self._setting}={place} cannot be imported ({type(error).__name__}: {error}).") from error
        if not self._is_one(found):
            raise ValueError(f"{self._setting}={place} is a {type(found).__name__}, which this setting has no use for.")
        return found

    def __getitem__(self, name: str) -> T:
        """What is registered by now: looks for no plug-ins, so that one may register while a room's own things are registered."""
        known = self._known[name]
        return self._resolve(known) if isinstance(known, str) else known

    def __iter__(self) -> Iterator[str]:
        return iter(self._known)

    def __len__(self) -> int:
        return len(self._known)


def _place(thing: object) -> str:
    if isinstance(thing, str):
        return thing
    of = thing if hasattr(thing, "__qualname__") else type(thing)
    return f"{getattr(of, '__module__', '?')}:{getattr(of, '__qualname__', '?')}"
