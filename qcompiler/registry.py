"""Registries: what the compiler and its plugins define, by name, and who defined it."""

from __future__ import annotations

import weakref
from collections.abc import Hashable, Iterator, Mapping, MutableMapping
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from types import MappingProxyType
from typing import Generic, TypeVar

from qcompiler.errors import QCompilerError, did_you_mean

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")

_loading: ContextVar[str] = ContextVar("_loading", default="")
_registries: weakref.WeakSet[Registry[object, object]] = weakref.WeakSet()


@dataclass(frozen=True)
class Definition(Generic[T]):
    """An entry of a registry.

    Attributes:
        value: what was registered.
        module: the module that defined it.
        plugin: the plugin during whose loading it was registered; empty outside of any.
    """

    value: T
    module: str
    plugin: str = ""

    @property
    def definer(self) -> str:
        """Who defined it, for messages."""
        return _definer(self.module, self.plugin)


class Registry(MutableMapping[K, T]):
    """Things of one kind by name, in order of registration. A name that is taken cannot be taken again.

    Args:
        kind: what an entry is, in one lower-case word or two: "pass", "op".
        plural: several of them.
    """

    def __init__(self, kind: str, plural: str = "") -> None:
        self.kind = kind
        self.plural = plural or f"{kind}s"
        self._definitions: dict[K, Definition[T]] = {}
        _registries.add(self)  # type: ignore[arg-type]

    def __getitem__(self, key: K) -> T:
        return self._definitions[key].value

    def __setitem__(self, key: K, value: T) -> None:
        self.add(key, value)

    def __delitem__(self, key: K) -> None:
        del self._definitions[key]

    def __iter__(self) -> Iterator[K]:
        return iter(self._definitions)

    def __len__(self) -> int:
        return len(self._definitions)

    # Mappings compare by content and have no hash; a registry is one thing with an identity.
    __hash__ = object.__hash__
    __eq__ = object.__eq__

    def add(self, key: K, value: T, module: str = "") -> None:
        """Register ``value`` as ``key``.

        Args:
            key: its name.
            value: a class, a function, or anything else.
            module: who defines it; by default the module that ``value`` names as its own.

        Raises:
            QCompilerError: the name is taken; names both definers.
        """
        module = module or str(getattr(value, "__module__", ""))
        self.check_free(key, module)
        self._definitions[key] = Definition(value, module, _plugin_of(module))

    def check_free(self, key: K, module: str) -> None:
        """Refuse a name that is taken, before ``module`` makes anything of it.

        Raises:
            QCompilerError: it is taken; names both definers.
        """
        if key not in self._definitions:
            return
        found = (self._definitions[key].definer, _definer(module, _plugin_of(module)))
        raise QCompilerError(
            f"{self.kind} {name_of(key)} is defined twice", found="; ".join(found),
            fix="rename one of them, or uninstall one of the plugins"
            if found[0] != found[1] else "rename one of them; to define it anew, remove the first from its registry",
        )

    def remove(self, key: K) -> None:
        """Take an entry out.

        Raises:
            QCompilerError: there is none.
        """
        self.require(key)
        del self._definitions[key]

    def require(self, key: K) -> T:
        """The entry ``key``.

        Raises:
            QCompilerError: there is none; names the nearest.
        """
        if key in self._definitions:
            return self._definitions[key].value
        known = sorted(map(_text, self._definitions))
        raise QCompilerError(
            f"unknown {self.kind} {name_of(key)}",
            expected="one of " + ", ".join(known) if known else f"no {self.kind} is registered",
            fix=did_you_mean(_text(key), known),
        )

    def definitions(self) -> Mapping[K, Definition[T]]:
        """All entries with their definers."""
        return MappingProxyType(self._definitions)

    @contextmanager
    def temporary(self) -> Iterator[None]:
        """A scope whose changes to this registry are undone at its end."""
        before = dict(self._definitions)
        try:
            yield
        finally:
            self._definitions = before


def name_of(key: object) -> str:
    """A key for messages: ``'softmax'``, or ``'litert-add' of 'add'`` for the pair (add, litert-add)."""
    return " of ".join(map(repr, reversed([k for k in key if k]))) if isinstance(key, tuple) else repr(key)


def _plugin_of(module: str) -> str:
    """The plugin that ``module`` belongs to: a plugin may be the first to import a part of the compiler."""
    return "" if module.partition(".")[0] == __name__.partition(".")[0] else _loading.get()


def _definer(module: str, plugin: str) -> str:
    return f"module {module!r}" + (f" of {plugin}" if plugin else "")


def _text(key: object) -> str:
    return " ".join(str(k) for k in key if k) if isinstance(key, tuple) else str(key)


def registries() -> list[Registry[object, object]]:
    """All registries, by kind."""
    return sorted(_registries, key=lambda r: r.kind)


@contextmanager
def temporary() -> Iterator[None]:
    """A scope whose changes to all registries are undone at its end: for tests, and for plugins that fail to load."""
    with ExitStack() as stack:
        for registry in registries():
            stack.enter_context(registry.temporary())
        yield


@contextmanager
def loading(plugin: str) -> Iterator[None]:
    """A scope in which everything registered is recorded as ``plugin``'s.

    If it is left by an error, nothing that was registered in it remains.
    """
    before = {registry: dict(registry._definitions) for registry in registries()}
    token = _loading.set(plugin)
    try:
        yield
    except BaseException:
        for registry in registries():
            kept = {key: d for key, d in registry._definitions.items() if d.plugin != plugin}
            registry._definitions = before.get(registry, {}) | kept
        raise
    finally:
        _loading.reset(token)
