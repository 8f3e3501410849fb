"""Which tests leave nothing behind in the process that runs them, judged by their bytecode.

The tests are ours, so this is no defence against hostile code: it keeps a judge's process for the next answer only where the
answer before cannot have changed it, whatever plain values came back. Tests that may do more end their process with them.
"""

import opcode
from types import CodeType

STATELESS_MODULES = frozenset(
    ("bisect", "cmath", "collections", "copy", "datetime", "fractions", "functools", "heapq", "itertools", "math", "operator", "random")
) | {"re", "string", "typing"}
"""Modules that keep nothing that a test could change but caches, and ``random``, which is seeded anew for each answer."""
REACHES_OUT = frozenset(("breakpoint", "compile", "delattr", "eval", "exec", "exit", "globals", "input", "open", "quit", "setattr", "vars"))
"""Builtins with which a test could change what is not its own."""
_CHANGES_OBJECTS = frozenset((opcode.opmap["STORE_ATTR"], opcode.opmap["DELETE_ATTR"]))
_IMPORT, _EXTENDED = opcode.opmap["IMPORT_NAME"], opcode.EXTENDED_ARG


def leaves_nothing(code: CodeType) -> bool:
    """True where the code only computes: it assigns names and items, imports stateless modules, and reaches for nothing else."""
    operations = set(code.co_code[::2])
    if operations & _CHANGES_OBJECTS or not REACHES_OUT.isdisjoint(code.co_names) or any(name.startswith("__") for name in code.co_names):
        return False
    if _IMPORT in operations and not STATELESS_MODULES.issuperset(_find_imports(code)):
        return False
    return all(leaves_nothing(constant) for constant in code.co_consts if type(constant) is CodeType)


def _find_imports(code: CodeType) -> set[str]:
    """First parts of the modules' names that the code imports."""
    names: set[str] = set()
    extended = 0
    for operation, argument in zip(code.co_code[::2], code.co_code[1::2], strict=True):
        index, extended = extended | argument, 0
        if operation == _EXTENDED:
            extended = index << 8
        elif operation == _IMPORT:
            names.add(code.co_names[index].partition(".")[0])
    return names
