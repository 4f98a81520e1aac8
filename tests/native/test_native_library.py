"""Shared libraries loaded by ctypes."""

from __future__ import annotations

import multiprocessing
import os
import threading
from pathlib import Path

import handwritten_program as tiny
import numpy as np
import pytest

from qcompiler.backends.tvm.library_build import RUNTIME, build_shared_library
from qcompiler.backends.tvm.library_loading import ALIGNMENT, VERSION, MissingInstructions, UnusableLibrary
from qcompiler.backends.tvm.native_library import NativeLibrary
from qcompiler.backends.tvm.toolchain import find_toolchain
from qcompiler.errors import QCompilerError


def build(output: Path, *, seed: int = 0, instructions: str = "", status: int = 0) -> Path:
    toolchain = find_toolchain()
    parts = tiny.parts(toolchain, seed=seed, instructions=instructions, status=status)
    build_shared_library(parts, output, toolchain, tvm=False)
    return output


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("library") / "lib.so")


@pytest.fixture(scope="module")
def library(path: Path) -> NativeLibrary:
    return NativeLibrary(path)


def test_the_library_describes_itself(library: NativeLibrary) -> None:
    assert library.name == "tiny"
    assert [(t.name, t.dtype, t.shape, t.batched) for t in library.inputs] == [
        ("x:0", np.dtype("int8"), (tiny.ROWS, tiny.COLUMNS), True),
        ("offset", np.dtype("int32"), (tiny.COLUMNS,), False),
    ]
    assert [(t.name, t.dtype) for t in library.outputs] == [("y", np.dtype("float32"))]
    assert [(t.name, t.dtype) for t in library.stored] == [("y", np.dtype("int32"))]
    assert library.step_names == tiny.STEP_NAMES


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("samples", [0, 1, 7])
def test_runs_any_number_of_samples(library: NativeLibrary, samples: int, threads: int) -> None:
    feeds = tiny.feeds(samples, seed=10 * samples + threads)
    y, sums = tiny.expected(feeds)
    outputs, stored = library.run_with_stored(feeds, threads)
    assert list(outputs) == ["y"]
    np.testing.assert_array_equal(outputs["y"], y, strict=True)
    np.testing.assert_array_equal(stored[0], sums, strict=True)
    np.testing.assert_array_equal(library.run(feeds, threads)["y"], y, strict=True)


def test_inputs_of_any_layout(library: NativeLibrary) -> None:
    feeds = tiny.feeds(2)
    y, _ = tiny.expected(feeds)
    unaligned = np.frombuffer(b"\0" + feeds["x:0"].tobytes(), np.int8, offset=1).reshape(feeds["x:0"].shape)
    for x in (np.asfortranarray(feeds["x:0"]), np.repeat(feeds["x:0"], 2, axis=1)[:, ::2], unaligned):
        np.testing.assert_array_equal(library.run({**feeds, "x:0": x})["y"], y)


def test_wrong_inputs_are_named(library: NativeLibrary) -> None:
    feeds = tiny.feeds(2)
    wrong = [
        ({"x:0": feeds["x:0"]}, "input 'offset' is missing"),
        ({**feeds, "ofset": feeds["offset"]}, "(?s)no input 'ofset'.*did you mean 'offset'"),
        ({**feeds, "x:0": feeds["x:0"].view(np.uint8)}, "(?s)'x:0' has another format.*int8.*uint8"),
        ({**feeds, "x:0": feeds["x:0"][:4]}, r"(?s)'x:0' has another shape.*\(N \* 3, 40\).*\(4, 40\)"),
        ({**feeds, "x:0": feeds["x:0"][:, :-1]}, r"(?s)'x:0' has another shape.*\(6, 39\)"),
        ({**feeds, "offset": np.zeros((2, tiny.COLUMNS), np.int32)}, "'offset' has another shape"),
    ]
    for given, message in wrong:
        with pytest.raises(QCompilerError, match=message):
            library.run(given)
    for threads in (0, -1, 1025, 2**40, 1.5, True, None, "2"):
        with pytest.raises(QCompilerError, match="1 to 1024 threads"):
            library.run(feeds, threads=threads)  # type: ignore[arg-type]


def test_many_threads_run_it_at_the_same_time(library: NativeLibrary) -> None:
    faults: list[int] = []

    def work(seed: int) -> None:
        for i in range(50):
            feeds = tiny.feeds(1 + i % 3, seed=100 * seed + i)
            if not np.array_equal(library.run(feeds, threads=1 + i % 3)["y"], tiny.expected(feeds)[0]):
                faults.append(seed)

    running = [threading.Thread(target=work, args=(seed,)) for seed in range(6)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    assert not faults


def test_a_forked_process_runs_it_too(library: NativeLibrary) -> None:
    library.run(tiny.feeds(1), threads=3)
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=lambda: queue.put(library.run(tiny.feeds(2), threads=3)["y"]))
    child.start()
    np.testing.assert_array_equal(queue.get(timeout=20), tiny.expected(tiny.feeds(2))[0])
    child.join(timeout=20)
    assert child.exitcode == 0


@pytest.mark.parametrize("threads", [1, 3])
def test_a_prepared_run_reads_and_writes_in_place(path: Path, threads: int) -> None:
    library = NativeLibrary(path)
    feeds = tiny.feeds(4, seed=1)
    prepared = library.prepare(feeds, threads)
    assert list(prepared.inputs) == list(feeds)
    assert all(prepared.inputs[name] is array or prepared.inputs[name].base is array for name, array in feeds.items())
    # The run keeps its library and threads.
    del library
    y = prepared.outputs["y"]
    for seed in (1, 2):
        for name, array in tiny.feeds(4, seed=seed).items():
            feeds[name][...] = array
        y[...] = -1
        prepared.run()
        np.testing.assert_array_equal(y, tiny.expected(feeds)[0], strict=True)
        assert prepared.outputs["y"] is y


def test_prepared_runs_at_the_same_time_share_nothing(library: NativeLibrary) -> None:
    feeds = [tiny.feeds(50, seed=seed) for seed in range(4)]
    runs = [library.prepare(f, 2) for f in feeds]
    threads = [threading.Thread(target=lambda r=r: [r.run() for _ in range(30)]) for r in runs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for run, f in zip(runs, feeds, strict=True):
        np.testing.assert_array_equal(run.outputs["y"], tiny.expected(f)[0], strict=True)


def test_preparing_refuses_and_copies_what_a_run_does(library: NativeLibrary, tmp_path: Path) -> None:
    feeds = tiny.feeds(2)
    with pytest.raises(QCompilerError, match="is missing"):
        library.prepare({"x:0": feeds["x:0"]})
    with pytest.raises(QCompilerError, match="1 to 1024 threads"):
        library.prepare(feeds, 0)
    turned = {**feeds, "x:0": np.asfortranarray(feeds["x:0"])}
    prepared = library.prepare(turned)
    prepared.run()
    np.testing.assert_array_equal(prepared.outputs["y"], tiny.expected(feeds)[0])
    failing = NativeLibrary(build(tmp_path / "lib.so", status=3)).prepare(feeds)
    with pytest.raises(UnusableLibrary, match="stopped with status 3"):
        failing.run()


def test_profile(library: NativeLibrary) -> None:
    feeds = tiny.feeds(500)
    steps = library.profile(feeds, threads=1, repeat=5)
    assert [name for name, _ in steps] == list(tiny.STEP_NAMES)
    assert all(0 < nanoseconds < 60e9 for _, nanoseconds in steps)


def test_missing_instructions_are_named_before_anything_runs(tmp_path: Path) -> None:
    path = build(tmp_path / "lib.so", instructions="sse2 warp-drive")
    with pytest.raises(MissingInstructions, match=r"(?s)lib\.so needs instructions.*no warp-drive"):
        NativeLibrary(path)


def test_a_failing_run_is_an_error(tmp_path: Path) -> None:
    library = NativeLibrary(build(tmp_path / "lib.so", status=3))
    with pytest.raises(UnusableLibrary, match="tiny stopped with status 3"):
        library.run(tiny.feeds(1))


@pytest.mark.parametrize("how", ["replaced", "overwritten"])
def test_a_library_built_again_is_the_one_that_is_loaded(tmp_path: Path, how: str) -> None:
    path, feeds = tmp_path / "lib.so", tiny.feeds(2)
    build(path, seed=1)
    first = NativeLibrary(path)
    np.testing.assert_array_equal(first.run(feeds)["y"], tiny.expected(feeds, seed=1)[0])
    if how == "replaced":
        build(path, seed=2)
    else:
        content = build(tmp_path / "other.so", seed=2).read_bytes()
        path.write_bytes(content)
    second = NativeLibrary(path)
    np.testing.assert_array_equal(second.run(feeds)["y"], tiny.expected(feeds, seed=2)[0])
    if how == "replaced":
        np.testing.assert_array_equal(first.run(feeds)["y"], tiny.expected(feeds, seed=1)[0])
    build(path, seed=3)
    np.testing.assert_array_equal(NativeLibrary(path).run(feeds)["y"], tiny.expected(feeds, seed=3)[0])


def test_what_is_no_library_of_ours_is_refused(tmp_path: Path, path: Path) -> None:
    toolchain = find_toolchain()
    with pytest.raises(UnusableLibrary, match=r"(?s)cannot load .*none\.so"):
        NativeLibrary(tmp_path / "none.so")
    (tmp_path / "text.so").write_text("no library " * 20)
    with pytest.raises(UnusableLibrary, match=r"(?s)cannot load .*text\.so.*invalid ELF header"):
        NativeLibrary(tmp_path / "text.so")
    (tmp_path / "short.so").write_bytes(path.read_bytes()[:200])
    with pytest.raises(UnusableLibrary, match="cannot load"):
        NativeLibrary(tmp_path / "short.so")
    toolchain.compile(RUNTIME / "qcompiler_pool.c", tmp_path / "pool.o")
    toolchain.link_shared([tmp_path / "pool.o"], tmp_path / "foreign.so")
    with pytest.raises(UnusableLibrary, match="no library of this version"):
        NativeLibrary(tmp_path / "foreign.so")


def test_a_library_of_another_version_is_refused(tmp_path: Path) -> None:
    source = tmp_path / "old.c"
    source.write_text("int qcompiler_library_version(void) { return 99; }")
    toolchain = find_toolchain()
    toolchain.compile(source, tmp_path / "old.o", flags=["-fvisibility=default"])
    toolchain.link_shared([tmp_path / "old.o"], tmp_path / "old.so")
    with pytest.raises(UnusableLibrary, match=r"(?s)old\.so is no library of this version.*runtime version 2"):
        NativeLibrary(tmp_path / "old.so")


def test_the_loader_knows_the_header() -> None:
    header = (RUNTIME / "qcompiler_runtime.h").read_text()
    assert f"#define QCOMPILER_RUNTIME_VERSION {VERSION}\n" in header
    assert f"#define QCOMPILER_ALIGNMENT {ALIGNMENT}\n" in header


def test_pools_end_with_the_library(path: Path) -> None:
    def threads_now() -> int:
        return len(os.listdir("/proc/self/task"))

    before = threads_now()
    library = NativeLibrary(path)
    library.run(tiny.feeds(1), threads=5)
    assert threads_now() == before + 4
    del library
    assert threads_now() == before


def test_the_latest_pools_are_kept_and_those_in_use(path: Path) -> None:
    def threads_now() -> int:
        return len(os.listdir("/proc/self/task"))

    before = threads_now()
    library, feeds = NativeLibrary(path), tiny.feeds(3)
    prepared = library.prepare(feeds, threads=3)
    assert prepared.threads == library.working_threads(3) == 3
    for threads in range(4, 12):
        library.run(feeds, threads=threads)
    assert threads_now() - before == 2 + 9 + 10
    prepared.run()
    np.testing.assert_array_equal(prepared.outputs["y"], tiny.expected(feeds)[0])
    del prepared
    assert threads_now() - before == 9 + 10
    del library
    assert threads_now() == before
