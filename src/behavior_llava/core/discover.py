"""The folder is the registry: a file's name is the name of what it declares.

`find("data.filters", "FILTER")` imports every module of that package that declares `FILTER` and returns them
by file name. Nothing registers itself; adding a thing is adding a file.
"""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from functools import cache
from typing import Any

from behavior_llava.core.errors import UserError


@cache
def find(package: str, constant: str) -> dict[str, Any]:
    """Every declaration named `constant` in the modules of `behavior_llava.<package>`, by module name,
    sorted.
    """
    folder = importlib.import_module(f"behavior_llava.{package}")
    found = {}
    for info in pkgutil.iter_modules(folder.__path__):
        module = importlib.import_module(f"{folder.__name__}.{info.name}")
        if hasattr(module, constant):
            found[info.name] = getattr(module, constant)
    return dict(sorted(found.items()))


def get(package: str, constant: str, name: str, *, where: str) -> Any:
    """The declaration called `name`; a UserError that suggests the nearest name where there is none."""
    found = find(package, constant)
    if name not in found:
        near = difflib.get_close_matches(name, found, n=1)
        hint = f"did you mean {near[0]!r}? There are: " if near else "there are: "
        raise UserError(f"no {constant.lower()} called {name!r}", where=where, remedy=hint + ", ".join(found))
    return found[name]
