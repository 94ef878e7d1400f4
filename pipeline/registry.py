"""Extension points: a package's listing is the list of what it offers, so that adding one is adding one file.

Listing imports nothing of what it lists: a list of six names costs no imports.
"""

import importlib
import importlib.util
import pkgutil
from types import ModuleType

from pipeline.errors import ConfigError


def names(package: str) -> tuple[str, ...]:
    """Return the sorted names of the modules and packages in a package's folder, as in `names("pipeline.backends")`.

    Nothing inside the package is imported, nor is the package itself, only what it lies in.

    Raises:
        ModuleNotFoundError: there is no such package (a bug of the caller).
    """
    spec = importlib.util.find_spec(package)
    if spec is None or spec.submodule_search_locations is None:
        raise ModuleNotFoundError(f"{package} is not a package")
    return tuple(sorted({module.name for module in pkgutil.iter_modules(spec.submodule_search_locations)}))


def load(package: str, name: str) -> ModuleType:
    """Import one of the modules that `names` lists.

    Raises:
        ConfigError: there is none of this name; it says which there are.
        ImportError: what the module needs is not installed.
    """
    known = names(package)
    if name not in known:
        kind = package.rpartition(".")[2].removesuffix("s")  # "pipeline.backends" lists backends
        raise ConfigError(f"unknown {kind} {name!r}", f"Choose from: {', '.join(known)}.")
    return importlib.import_module(f"{package}.{name}")
