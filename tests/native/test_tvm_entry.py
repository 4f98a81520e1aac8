"""Libraries through TVM's runtime, in a process that cannot import qcompiler."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import handwritten_program as tiny
import numpy as np
import pytest

from qcompiler.backends.tvm.library_build import build_shared_library
from qcompiler.backends.tvm.native_library import NativeLibrary
from qcompiler.backends.tvm.toolchain import find_toolchain

ALONE = """
import importlib.abc, sys

class Forbidden(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name.split(".")[0] == "qcompiler":
            raise ImportError("qcompiler may not be imported here")

sys.meta_path.insert(0, Forbidden())
import numpy as np
"""
"""What every process begins with."""


def run_alone(script: str, *arguments: Path) -> str:
    """What a script prints, with qcompiler out of reach."""
    command = [sys.executable, "-c", ALONE + script, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two libraries, inputs and expected outputs."""
    made, toolchain = tmp_path_factory.mktemp("tvm_entry"), find_toolchain()
    build_shared_library(tiny.parts(toolchain), made / "lib.so", toolchain)
    build_shared_library(tiny.parts(toolchain, instructions="warp-drive sse2"), made / "future.so", toolchain)
    build_shared_library(tiny.parts(toolchain, status=7), made / "failing.so", toolchain)
    feeds = tiny.feeds(4)
    np.savez(made / "data.npz", x=feeds["x:0"], offset=feeds["offset"], y=tiny.expected(feeds)[0])
    return made


def test_qcompiler_is_out_of_reach() -> None:
    assert "refused" in run_alone("""
try:
    import qcompiler
except ImportError:
    print("refused")
""")


def test_runs_through_tvm_alone(folder: Path) -> None:
    assert run_alone("""
import tvm
library = tvm.runtime.load_module(sys.argv[1] + "/lib.so")
data = np.load(sys.argv[1] + "/data.npz")
for threads in (1, 2, 4, 1):
    library["set_threads"](threads)
    for arrays in (np.asarray, tvm.runtime.tensor):
        for samples in (0, 1, 4):
            x, y = data["x"][: 3 * samples].copy(), np.full((3 * samples, 40), np.nan, np.float32)
            out = arrays(y)
            library["run"](arrays(x), arrays(data["offset"].copy()), out)
            found = out if arrays is np.asarray else out.numpy()
            assert np.array_equal(found, data["y"][: 3 * samples]), (threads, arrays, samples)
del library
print("done")
""", folder) == "done\n"


def test_runs_at_the_same_time_and_unloads_with_threads(folder: Path) -> None:
    assert run_alone("""
import os, threading, tvm
data = np.load(sys.argv[1] + "/data.npz")
x, offset, expected = data["x"].copy(), data["offset"].copy(), data["y"]
faults = []
for _ in range(3):
    library = tvm.runtime.load_module(sys.argv[1] + "/lib.so")
    library["set_threads"](3)
    def work():
        for i in range(100):
            y = np.zeros_like(expected)
            library["run"](x, offset, y)
            if i % 30 == 0:
                library["set_threads"](1 + i // 30)
            faults.append(not np.array_equal(y, expected))
    running = [threading.Thread(target=work) for _ in range(4)]
    [t.start() for t in running]
    [t.join() for t in running]
    del library
print(any(faults), len(faults))
""", folder) == "False 1200\n"


def test_wrong_arguments_are_explained(folder: Path) -> None:
    found = run_alone("""
import tvm
library = tvm.runtime.load_module(sys.argv[1] + "/lib.so")
data = np.load(sys.argv[1] + "/data.npz")
x, offset, y = data["x"].copy(), data["offset"].copy(), np.zeros((12, 40), np.float32)
wrong = [
    (x, offset), (x, offset, 3), (x.view(np.uint8), offset, y), (x[:10], offset, y), (x, offset[:-1], y),
    (x, offset, y[:9]), (np.asfortranarray(x), offset, y), (x, offset, y.T.copy()), (x.reshape(-1), offset, y),
    (x, offset, y.astype(np.float64)),
]
for arguments in wrong:
    try:
        library["run"](*arguments)
        print("no error")
    except Exception as error:
        print(type(error).__name__, str(error).splitlines()[0])
for arguments in [(), (0,), (1.5,), (5000,)]:
    try:
        library["set_threads"](*arguments)
        print("no error")
    except Exception as error:
        print(type(error).__name__, str(error).splitlines()[0])
assert not y.any()
""", folder)
    assert found.splitlines() == [
        "TypeError 'tiny' takes 2 inputs and 1 outputs, found 2 arguments",
        "TypeError output 'y' takes a tensor, found another kind of object",
        "TypeError input 'x:0' takes int8, found uint8",
        "ValueError input 'x:0' takes shape (N * 3, 40), found (10, 40)",
        "ValueError input 'offset' takes shape (40,), found (39,)",
        "ValueError output 'y' holds 3 samples, an argument before it 4",
        "ValueError input 'x:0' must be contiguous, row by row",
        "ValueError output 'y' takes shape (N * 3, 40), found (40, 12)",
        "ValueError input 'x:0' takes shape (N * 3, 40), found (480,)",
        "TypeError output 'y' takes float32, found float64",
        "TypeError set_threads takes one integer",
        "ValueError set_threads takes 1 to 1024, found 0",
        "TypeError set_threads takes one integer",
        "ValueError set_threads takes 1 to 1024, found 5000",
    ]


def test_missing_instructions_come_first(folder: Path) -> None:
    assert run_alone("""
import tvm
try:
    tvm.runtime.load_module(sys.argv[1] + "/future.so")["run"]()
except RuntimeError as error:
    print(str(error).splitlines()[0])
""", folder) == "'tiny' needs instructions that this processor lacks: warp-drive\n"


def test_a_failing_run_is_an_error(folder: Path) -> None:
    assert "'tiny' stopped with status 7" in run_alone("""
import tvm
try:
    library = tvm.runtime.load_module(sys.argv[1] + "/failing.so")
    library["run"](np.zeros((3, 40), np.int8), np.zeros(40, np.int32), np.zeros((3, 40), np.float32))
except RuntimeError as error:
    print(error)
""", folder)


def test_errors_arrive_where_the_library_was_loaded_before_tvm(folder: Path) -> None:
    """The dynamic linker then knows the library, and resolves nothing again."""
    assert run_alone("""
import ctypes
early = ctypes.CDLL(sys.argv[1] + "/future.so")
import tvm
try:
    tvm.runtime.load_module(sys.argv[1] + "/future.so")["run"]()
except RuntimeError as error:
    print("warp-drive" in str(error))
""", folder) == "True\n"


def test_loads_where_there_is_no_tvm(folder: Path) -> None:
    feeds = tiny.feeds(2)
    np.testing.assert_array_equal(NativeLibrary(folder / "lib.so").run(feeds)["y"], tiny.expected(feeds)[0])
