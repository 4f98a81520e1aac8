"""Brings in everything that registers itself: the built-in ops and passes, then the plugins that are installed.

A plugin is an entry point of the group ``qcompiler.plugins`` that names a module. Importing the module registers what
it hands in, through the same decorators as the compiler's own parts.
"""

from __future__ import annotations

import importlib
import os
import pkgutil
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import qcompiler.ops
import qcompiler.passes
from qcompiler.errors import QCompilerError
from qcompiler.registry import Definition, loading, registries
from qcompiler.rewrite import check_destinations

GROUP = "qcompiler.plugins"
"""The group of entry points that are plugins."""
NO_PLUGINS = "QCOMPILER_NO_PLUGINS"
"""The environment variable that keeps plugins out, unless it is empty or 0."""

_COMPILER = Path(__file__).parent


@dataclass(frozen=True)
class Plugin:
    """An installed plugin.

    Attributes:
        name: the entry point's name.
        module: the module that it names.
        distribution, version: the installed package that it belongs to.
    """

    name: str
    module: str
    distribution: str
    version: str

    def __str__(self) -> str:
        return f"plugin {self.name!r} ({self.distribution} {self.version})"


_loaded: dict[Plugin, EntryPoint] = {}
_enabled = True


def load() -> None:
    """Register the built-in ops and passes, and what installed plugins hand in. What is loaded is not loaded again.

    Raises:
        QCompilerError: a plugin cannot be loaded; names it and its distribution. Nothing of that plugin is registered,
            and the next call tries it anew. Or a rule goes into a pass that will not use it.
    """
    _load_built_in()
    for plugin, entry_point in _entry_points().items() if is_enabled() else ():
        if plugin not in _loaded:
            _load(plugin, entry_point)
            _loaded[plugin] = entry_point
    check_destinations()


def load_file(path: str | Path) -> None:
    """Register what a Python file hands in, as if it were a plugin. A file that is loaded again replaces itself.

    The file is run as a module of its own. It may import modules that lie beside it.

    Args:
        path: a ``.py`` file.

    Raises:
        QCompilerError: it cannot be read or run, or a name is taken; names file and line. Nothing of it is registered.
    """
    load()
    path = Path(path)
    owner = f"file {path}"
    if path.suffix != ".py" or not path.is_file():
        raise QCompilerError(
            f"{owner} cannot be loaded", expected="a Python file, NAME.py",
            found="another kind of file" if path.exists() else "no such file",
        )
    place = path.resolve()
    modules = dict(sys.modules)
    try:
        with loading(owner), _searching(place.parent):
            _forget(owner)
            _run(place)
    except (Exception, SystemExit) as error:
        # Modules whose definitions were taken back are forgotten too; those of an earlier run are there again.
        for name, module in list(sys.modules.items()):
            if modules.get(name) is not module and _lies_in(getattr(module, "__file__", None), place.parent):
                del sys.modules[name]
        sys.modules.update({name: module for name, module in modules.items() if name not in sys.modules})
        raise _file_error(owner, place, error) from error


def is_enabled() -> bool:
    """Whether :func:`load` loads plugins."""
    return _enabled and os.environ.get(NO_PLUGINS, "") in ("", "0")


@contextmanager
def disabled() -> Iterator[None]:
    """A scope in which :func:`load` loads no plugins. Those that are loaded already stay."""
    global _enabled
    before, _enabled = _enabled, False
    try:
        yield
    finally:
        _enabled = before


def installed() -> list[Plugin]:
    """All plugins that are installed, loaded or not, by distribution and name."""
    return list(_entry_points())


def is_loaded(plugin: Plugin) -> bool:
    """Whether what an installed plugin hands in is registered."""
    return plugin in _loaded


def registered_by(plugin: Plugin) -> dict[str, list[str]]:
    """What a loaded plugin has registered: names by the plural of their kind."""
    found: dict[str, list[str]] = {}
    for registry in registries():
        for key, definition in registry.definitions().items():
            if _owner(definition) == plugin:
                text = " ".join(part for part in key if part) if isinstance(key, tuple) else str(key)
                found.setdefault(registry.plural, []).append(text)
    return found


def _owner(definition: Definition[object]) -> Plugin | None:
    """The plugin whose module holds the definition, else the one that was being loaded when it was made.

    A plugin may import another one, which is then loaded as a part of it.
    """
    around = [p for p in _loaded if f"{definition.module}.".startswith(f"{p.module}.")]
    if around:
        return max(around, key=lambda p: len(p.module))
    return next((p for p in _loaded if str(p) == definition.plugin), None)


@cache
def _load_built_in() -> None:
    for module in pkgutil.iter_modules(qcompiler.passes.__path__):
        importlib.import_module(f"qcompiler.passes.{module.name}")


def _entry_points() -> dict[Plugin, EntryPoint]:
    found = {}
    for entry_point in entry_points(group=GROUP):
        distribution = entry_point.dist
        name, version = (distribution.name, distribution.version) if distribution else ("no distribution", "")
        found[Plugin(entry_point.name, entry_point.value, name, version)] = entry_point
    return dict(sorted(found.items(), key=lambda item: (item[0].distribution, item[0].name)))


def _load(plugin: Plugin, entry_point: EntryPoint) -> None:
    before = set(sys.modules)
    defining = {plugin.module}
    try:
        with loading(str(plugin)):
            try:
                loaded = entry_point.load()
                if not isinstance(loaded, ModuleType):
                    raise TypeError(f"the entry point must name a module, {plugin.module!r} is something else")
            except BaseException:
                all_definitions = (d for registry in registries() for d in registry.definitions().values())
                defining.update(d.module for d in all_definitions if d.plugin == str(plugin))
                raise
    except (Exception, SystemExit) as error:
        # Modules whose definitions were taken back are forgotten too: imported anew, they register again.
        packages = {module.partition(".")[0] for module in defining}
        for module in set(sys.modules) - before:
            if module.partition(".")[0] in packages:
                del sys.modules[module]
        raise _load_error(plugin, error) from error


@contextmanager
def _searching(folder: Path) -> Iterator[None]:
    """A scope in which modules are found in ``folder``, too.

    It comes last: a file that is named like an installed module, such as ``json.py``, must not stand in for it.
    """
    known = str(folder) in sys.path
    if not known:
        sys.path.append(str(folder))
    try:
        yield
    finally:
        if not known:
            sys.path.remove(str(folder))


def _forget(owner: str) -> None:
    """Take out what was registered under ``owner``, so that it can be registered anew."""
    for registry in registries():
        for key, definition in list(registry.definitions().items()):
            if definition.plugin == owner:
                registry.remove(key)
                sys.modules.pop(definition.module, None)


def _run(place: Path) -> None:
    """Run a file as a module whose name is the file's path."""
    spec = spec_from_file_location(str(place), place)
    if spec is None:
        raise ImportError(f"no Python file: {place}")
    module = sys.modules[str(place)] = module_from_spec(spec)
    # Compiled here: a byte code file, which the import system would leave, may be taken for that of an edited file.
    exec(compile(place.read_bytes(), str(place), "exec", dont_inherit=True), vars(module))


def _lies_in(file: str | None, folder: Path) -> bool:
    """Whether a module's file is one of the user's in ``folder``, not the compiler's nor an installed package's."""
    if file is None or not Path(file).is_relative_to(folder) or Path(file).is_relative_to(_COMPILER):
        return False
    return "site-packages" not in Path(file).relative_to(folder).parts


def _file_error(owner: str, place: Path, error: BaseException) -> QCompilerError:
    inside = [f for f in traceback.extract_tb(error.__traceback__) if _lies_in(f.filename, place.parent)]
    line = f" ({inside[-1].filename}, line {inside[-1].lineno})" if inside else ""
    way_out = "mend the file, or leave out --load"
    if isinstance(error, QCompilerError):
        return QCompilerError(
            f"{owner} cannot be loaded{line}: {error.problem}", layer=error.layer, expected=error.expected,
            found=error.found, fix=f"{error.fix}; {way_out}" if error.fix else way_out,
        )
    return QCompilerError(
        f"{owner} cannot be loaded", found=f"{type(error).__name__}: {error}{line}", fix=way_out
    )


def _load_error(plugin: Plugin, error: BaseException) -> QCompilerError:
    way_out = f"mend or uninstall {plugin.distribution}; --no-plugins or {NO_PLUGINS}=1 starts without plugins"
    if isinstance(error, QCompilerError):
        return QCompilerError(
            f"{plugin} cannot be loaded: {error.problem}", expected=error.expected, found=error.found,
            fix=f"{error.fix}; {way_out}" if error.fix else way_out,
        )
    frames = traceback.extract_tb(error.__traceback__)
    inside = [f for f in frames if "importlib" not in f.filename and f.filename != __file__]
    place = f" ({inside[-1].filename}, line {inside[-1].lineno})" if inside else ""
    return QCompilerError(
        f"{plugin} cannot be loaded", found=f"{type(error).__name__}: {error}{place}", fix=way_out
    )
