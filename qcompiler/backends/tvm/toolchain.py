"""The C compiler that builds and links native programs: the system's, or the one in the ``ziglang`` wheel."""

from __future__ import annotations

import importlib.util
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from qcompiler.errors import QCompilerError

# A build must depend neither on the machine nor on the folder that it happens in: no -march, no debug information.
# No contraction: a * b + c keeps its two roundings.
_FLAGS = ("-std=gnu11", "-O2", "-fPIC", "-fvisibility=hidden", "-ffp-contract=off", "-g0", "-Wall")


class NoCompiler(QCompilerError):
    """No C compiler was found, or none that builds for the wanted processor."""


class CompilerFailed(QCompilerError):
    """The C compiler, linker or archiver refused its input."""


@dataclass(frozen=True)
class Toolchain:
    """A C compiler for one kind of machine.

    Attributes:
        compiler: the command, such as ``("gcc",)``.
        archiver: the command that makes static libraries.
        triple: the machine it builds for, such as ``aarch64-linux-gnu``; None for this one.
        flags: what the compiler needs to be told at every call.
        environment: the variables under which the commands run.
    """

    compiler: tuple[str, ...]
    archiver: tuple[str, ...]
    triple: str | None = None
    flags: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=lambda: dict(os.environ), compare=False, repr=False)

    @property
    def is_mach_o(self) -> bool:
        """Whether object files have the format of Apple's systems, not ELF."""
        return is_mach_o(self.triple)

    def compile(
        self,
        source: Path,
        output: Path,
        includes: Sequence[Path] = (),
        defines: Mapping[str, str] | None = None,
        flags: Sequence[str] = (),
    ) -> None:
        """Compile one C or assembler source into a relocatable object file.

        Args:
            source: a ``.c`` or ``.S`` file.
            output: the object file.
            includes: folders of headers.
            defines: preprocessor symbols with their values.
            flags: more of the compiler's options.

        Raises:
            CompilerFailed: the source is wrong.
        """
        defined = [f"-D{name}={value}" for name, value in (defines or {}).items()]
        searched = [f"-I{folder}" for folder in includes]
        command = [*self.compiler, *self.flags, *_FLAGS, *flags, *defined, *searched, "-c", str(source)]
        self._make(command, output)

    def link_shared(self, objects: Sequence[Path], output: Path, exports: Sequence[str] = ()) -> None:
        """Link object files into a shared library.

        Args:
            objects: what it holds.
            output: the library. An existing one is replaced, not overwritten: programs that run it keep the old one.
            exports: the only symbols that others see, ``*`` for any text; none stands for all.

        Raises:
            CompilerFailed: a symbol is missing or defined twice.
        """
        with tempfile.TemporaryDirectory() as folder:
            listed = Path(folder) / "exports"
            command = [*self.compiler, *self.flags, "-shared", *map(str, objects), *self._exporting(exports, listed)]
            # A missing symbol is to be found now, not when the library is loaded.
            command += [] if self.is_mach_o else ["-Wl,-z,defs", "-pthread", "-ldl", "-lm"]
            self._make(command, output)

    def link_program(self, sources: Sequence[Path], output: Path, flags: Sequence[str] = ()) -> None:
        """Compile and link sources, object files and static libraries into an executable.

        Raises:
            CompilerFailed: a source is wrong or a symbol is missing.
        """
        self._make([*self.compiler, *self.flags, *_FLAGS, *flags, *map(str, sources), "-pthread", "-lm"], output)

    def archive(self, objects: Sequence[Path], output: Path) -> None:
        """Put object files into a static library, replacing an existing one.

        Raises:
            CompilerFailed: an object file is missing.
        """
        # D leaves out times and owners: equal objects give equal libraries. Apple's ar does not know it.
        kind = "rcs" if sys.platform == "darwin" and not self.triple else "rcsD"
        with tempfile.TemporaryDirectory(dir=output.parent) as folder:
            made = Path(folder) / output.name
            self._run([*self.archiver, kind, str(made), *map(str, objects)])
            made.replace(output)

    def _exporting(self, exports: Sequence[str], listed: Path) -> list[str]:
        if not exports:
            return []
        if self.is_mach_o:
            listed.write_text("".join(f"_{name}\n" for name in exports), encoding="utf-8")
            return [f"-Wl,-exported_symbols_list,{listed}"]
        names = " ".join(f"{name};" for name in exports)
        listed.write_text(f"{{ global: {names} local: *; }};\n", encoding="utf-8")
        return [f"-Wl,--version-script={listed}"]

    def _make(self, command: Sequence[str], output: Path) -> None:
        with tempfile.TemporaryDirectory(dir=output.parent) as folder:
            made = Path(folder) / output.name
            self._run([*command, "-o", str(made)])
            made.replace(output)

    def _run(self, command: Sequence[str]) -> None:
        try:
            done = subprocess.run(command, env=dict(self.environment), capture_output=True, text=True, check=False)
        except OSError as error:
            raise NoCompiler(f"cannot start {command[0]}: {error.strerror}", fix=_FIX) from None
        if done.returncode:
            shown = "\n".join((done.stderr or done.stdout).splitlines()[:20])
            raise CompilerFailed(
                f"{' '.join(self.compiler)} failed", found=shown, expected=f"success of: {shlex.join(command)}",
                fix="check that the compiler builds for this machine, or name another one in $CC",
            )


_FIX = "install a C compiler (Debian: apt install gcc) or the wheel that brings one (pip install ziglang)"


def is_mach_o(triple: str | None) -> bool:
    """Whether object files of a machine, this one for None, have the format of Apple's systems, not ELF."""
    return any(word in (triple or sys.platform) for word in ("darwin", "macos", "ios"))


def find_toolchain(triple: str | None = None, environment: Mapping[str, str] | None = None) -> Toolchain:
    """A C compiler: ``$CC``, ``cc``, ``gcc``, ``clang``, or the ``ziglang`` wheel's, whichever is found first.

    Args:
        triple: the machine to build for, as LLVM spells it; None for this one. For others a cross compiler of that
            name will do, such as ``aarch64-linux-gnu-gcc``, or zig, or clang, which brings no C libraries.
        environment: variables to use in place of the process's; only ``PATH`` and ``CC`` matter.

    Raises:
        NoCompiler: there is none.
    """
    variables = dict(os.environ if environment is None else environment)
    if triple is not None and _machine(triple) == _machine(_host_triple()):
        triple = None
    named = shlex.split(variables.get("CC", ""))
    if named:
        if not shutil.which(named[0], path=variables.get("PATH", "")):
            raise NoCompiler(f"$CC names {named[0]!r}, which is not found", fix="correct $CC or unset it")
        return _system(tuple(named), triple, variables)
    if triple is None:
        for name in ("cc", "gcc", "clang"):
            if shutil.which(name, path=variables.get("PATH", "")):
                return _system((name,), None, variables)
        if _has_ziglang():
            return _zig(_host_triple(), variables)
        raise NoCompiler("no C compiler was found", expected="cc, gcc, clang, or the ziglang wheel", fix=_FIX)
    cross = f"{'-'.join(word for word in triple.split('-') if word not in ('unknown', 'pc'))}-gcc"
    if shutil.which(cross, path=variables.get("PATH", "")):
        return _system((cross,), triple, variables)
    if _has_ziglang():
        return _zig(triple, variables)
    if shutil.which("clang", path=variables.get("PATH", "")):
        return _system(("clang",), triple, variables)
    raise NoCompiler(
        f"no C compiler for {triple} was found", expected=f"{cross}, the ziglang wheel, clang, or one in $CC",
        fix="pip install ziglang",
    )


def _system(command: tuple[str, ...], triple: str | None, variables: Mapping[str, str]) -> Toolchain:
    """A compiler by its command. For another machine, clang is told which; any other is taken to know it."""
    path = variables.get("PATH", "")
    name = Path(command[0]).name
    prefix = name.rpartition("-")[0]
    matching = f"{prefix}-ar" if prefix else "ar"
    archiver = next((tool for tool in (matching, "ar", "llvm-ar") if shutil.which(tool, path=path)), "ar")
    # Programs are looked up here, by the given path: the process's own may lack them.
    found = shutil.which(command[0], path=path) or command[0]
    flags = (f"--target={triple}",) if triple and "clang" in name else ()
    full_archiver = shutil.which(archiver, path=path) or archiver
    return Toolchain((found, *command[1:]), (full_archiver,), triple, flags, variables)


def _zig(triple: str, variables: Mapping[str, str]) -> Toolchain:
    command = (sys.executable, "-m", "ziglang")
    # Without a target, zig builds for this very processor. Its checks of undefined behaviour need its own runtime.
    flags = ("-target", zig_target(triple), "-fno-sanitize=undefined")
    return Toolchain((*command, "cc"), (*command, "ar"), triple, flags, variables)


def zig_target(triple: str) -> str:
    """LLVM's name of a machine as zig spells it: ``aarch64-unknown-linux-gnu`` is ``aarch64-linux-gnu``."""
    machine, *rest = triple.split("-")
    machine = {"arm64": "aarch64", "amd64": "x86_64"}.get(machine, machine)
    rest = [word for word in rest if word not in ("unknown", "pc", "apple")]
    system = rest[0].rstrip("0123456789.") if rest else "none"
    system = {"darwin": "macos", "macosx": "macos", "none": "freestanding"}.get(system, system)
    return "-".join([machine, system, *rest[1:]])


def _has_ziglang() -> bool:
    return importlib.util.find_spec("ziglang") is not None


def _host_triple() -> str:
    machine = {"AMD64": "x86_64", "arm64": "aarch64"}.get(platform.machine(), platform.machine())
    if sys.platform == "darwin":
        return f"{machine}-macos"
    return f"{machine}-linux-{'gnu' if platform.libc_ver()[0] == 'glibc' else 'musl'}"


def _machine(triple: str) -> tuple[str, ...]:
    return tuple(zig_target(triple).split("-"))
