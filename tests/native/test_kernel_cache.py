"""Compiled kernels on disk: what is kept, what damage does, and what a missing or full folder does."""

from __future__ import annotations

import os
import pwd
from pathlib import Path
from typing import Any

import pytest

from qcompiler.backends.tvm import kernel_cache, object_code
from qcompiler.backends.tvm.kernel_cache import FOLDER_VARIABLE, KernelCache, cache_folder, write_whole
from qcompiler.backends.tvm.kernels.movement import contiguous_copy
from qcompiler.backends.tvm.object_code import symbol_of
from qcompiler.backends.tvm.selection import select_instruction_set

GENERIC = select_instruction_set("generic")
KERNEL = contiguous_copy(37, "uint8")
CODE = b"\x7fELF and the rest"


@pytest.fixture(autouse=True)
def no_compilation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel_cache, "compile_kernel", lambda kernel, isa: CODE)


def entry(folder: Path) -> Path:
    (path,) = (folder / "kernels").iterdir()
    return path


def test_a_kernel_is_compiled_once(tmp_path: Path) -> None:
    for compiled in (1, 0):
        cache = KernelCache(tmp_path)
        assert cache.object_code(KERNEL, GENERIC) == CODE
        assert (cache.compiled, cache.found) == (compiled, 1 - compiled)


@pytest.mark.parametrize("damage", ["truncated", "empty", "digest alone", "bit in code", "bit in digest", "folder"])
def test_damaged_entries_are_compiled_again(tmp_path: Path, damage: str) -> None:
    KernelCache(tmp_path).object_code(KERNEL, GENERIC)
    path = entry(tmp_path)
    whole = path.read_bytes()
    if damage == "folder":
        path.unlink()
        path.mkdir()
    else:
        path.write_bytes({
            "truncated": whole[:-1], "empty": b"", "digest alone": whole[:32],
            "bit in code": whole[:-1] + bytes([whole[-1] ^ 1]), "bit in digest": bytes([whole[0] ^ 1]) + whole[1:],
        }[damage])
    cache = KernelCache(tmp_path)
    assert cache.object_code(KERNEL, GENERIC) == CODE
    assert cache.compiled == 1
    if damage != "folder":
        assert path.read_bytes() == whole
    assert entry(tmp_path) == path, "nothing else is left behind"


def test_failed_writes_leave_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Path, target: Path) -> Any:
        raise OSError("no space left on device")

    monkeypatch.setattr(Path, "replace", full)
    assert not write_whole(tmp_path / "file", b"content")
    assert not list(tmp_path.iterdir())


def test_users_without_a_home_keep_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in (FOLDER_VARIABLE, "HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(variable, raising=False)

    def unknown(user: int) -> Any:
        raise KeyError(user)

    monkeypatch.setattr(pwd, "getpwuid", unknown)
    if os.getuid() == 0:
        # The system's folders may stand in for the superuser's.
        monkeypatch.setattr(os, "getuid", lambda: 12345)
        monkeypatch.setattr(os, "geteuid", lambda: 12345)
    assert cache_folder() is None
    for _ in range(2):
        cache = KernelCache()
        assert cache.object_code(KERNEL, GENERIC) == CODE
        assert (cache.compiled, cache.found) == (1, 0)


def test_symbols_tell_machines_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    here = symbol_of(KERNEL, GENERIC)
    named = symbol_of(KERNEL, GENERIC.retargeted("riscv64-linux-gnu"))
    monkeypatch.setattr(object_code, "host_architecture", lambda: "another one")
    assert symbol_of(KERNEL, GENERIC) != here
    assert symbol_of(KERNEL, GENERIC.retargeted("riscv64-linux-gnu")) == named
