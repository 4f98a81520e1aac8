"""The C runtime: threads that share work, and what the processor can do."""

from __future__ import annotations

import ctypes
import platform
import sys
from pathlib import Path

import pytest

from qcompiler.backends.tvm.library_build import RUNTIME
from qcompiler.backends.tvm.toolchain import Toolchain, find_toolchain

FOLDER = Path(__file__).parent


def build(toolchain: Toolchain, folder: Path, sources: list[Path], defines: dict[str, str]) -> ctypes.CDLL:
    objects = []
    for source in sources:
        objects.append(folder / f"{source.name}.o")
        toolchain.compile(source, objects[-1], [RUNTIME], defines, ["-Wextra", "-Werror"])
    toolchain.link_shared(objects, folder / "runtime.so")
    return ctypes.CDLL(str(folder / "runtime.so"))


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    sources = [FOLDER / "pool_stress.c", RUNTIME / "qcompiler_pool.c"]
    library = build(find_toolchain(), tmp_path_factory.mktemp("pool"), sources, {})
    library.idle_cost.restype = ctypes.c_int64
    return library


@pytest.fixture(scope="module")
def delayed_pool(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    """The same with threads that are held up in the middle of a claim."""
    folder = tmp_path_factory.mktemp("delayed_pool")
    return build(find_toolchain(), folder, [FOLDER / "pool_stress.c"], {"DELAYED_CLAIMS": "1"})


@pytest.fixture(scope="module")
def processor(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    folder = tmp_path_factory.mktemp("processor")
    library = build(find_toolchain(), folder, [RUNTIME / "qcompiler_processor.c"], {})
    library.qcompiler_missing_instructions.restype = ctypes.c_char_p
    return library


@pytest.mark.parametrize("threads", range(1, 9))
@pytest.mark.parametrize("slowness", [0, 30, 1000], ids=["fast", "uneven", "slow"])
def test_every_item_runs_once_within_its_own_region(pool: ctypes.CDLL, threads: int, slowness: int) -> None:
    assert pool.stress(threads, 4000 if slowness == 0 else 1000, slowness, 11 * threads + slowness) == 0


@pytest.mark.parametrize(("items", "piece"), [(1000, 3), (65535, 1), (65536, 1), (200_001, 1), (200_001, 7)])
def test_threads_meet_between_both_ends(pool: ctypes.CDLL, items: int, piece: int) -> None:
    calls: list[tuple[int, int, int]] = []
    step = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int32, ctypes.c_int32, ctypes.c_int32)(
        lambda _frame, begin, end, worker: calls.append((worker, begin, end))
    )
    pool.qcompiler_pool_create.restype = ctypes.c_void_p
    threads = ctypes.c_void_p(pool.qcompiler_pool_create(2))
    try:
        pool.qcompiler_parallel(threads, step, None, items, piece)
    finally:
        pool.qcompiler_pool_destroy(threads)
    pieces = sorted((begin, end) for _, begin, end in calls)
    assert [end for _, end in pieces] == [begin for begin, _ in pieces[1:]] + [items]
    assert pieces[0][0] == 0
    sizes = {end - begin for begin, end in pieces[:-1]}
    assert sizes == {piece if items <= 65535 * piece else items // 65535 + 1}
    assert len(pieces) <= 65535
    own, other = ([begin for worker, begin, _ in calls if worker == number] for number in (0, 1))
    assert own == sorted(own)
    assert other == sorted(other, reverse=True)
    assert not own or not other or own[-1] < other[-1]


@pytest.mark.parametrize("threads", [2, 3, 5])
def test_late_claims_get_nothing_of_another_region(delayed_pool: ctypes.CDLL, threads: int) -> None:
    assert delayed_pool.stress(threads, 8000, 0, threads) == 0


@pytest.mark.parametrize("threads", [2, 3, 8])
@pytest.mark.parametrize("pause", [0, 20, 500], ids=["at-once", "awake", "asleep"])
def test_every_thread_takes_part(pool: ctypes.CDLL, threads: int, pause: int) -> None:
    assert pool.meetings(threads, 200 if pause < 100 else 30, pause) == 0


def test_more_threads_than_the_machine_has_cores_by_far(pool: ctypes.CDLL) -> None:
    assert pool.stress(64, 300, 100, 5) == 0


def test_pools_come_and_go(pool: ctypes.CDLL) -> None:
    assert pool.create_and_destroy(4, 200) == 0


def test_several_callers_share_a_pool(pool: ctypes.CDLL) -> None:
    assert pool.several_callers(3, 4, 500) == 0


@pytest.mark.parametrize("pause", [0, 3000], ids=["awake", "asleep"])
def test_a_forked_process_works_without_the_threads_and_waits_for_none(pool: ctypes.CDLL, pause: int) -> None:
    assert pool.forked(4, 300, pause) == 0


def test_a_pool_without_work_sleeps(pool: ctypes.CDLL) -> None:
    """Three threads that went on looking for work would use up to 600 ms in 200."""
    assert pool.idle_cost(4, 200) < 20_000_000


@pytest.mark.parametrize(
    ("threads", "items", "piece", "calls"),
    [(2, 10, 3, 4), (2, 10, 10, 1), (2, 10, 11, 1), (1, 10, 3, 1), (2, 0, 3, 0), (2, -1, 3, 0), (2, 5, 0, 5)],
)
def test_regions_are_divided_into_pieces(pool: ctypes.CDLL, threads: int, items: int, piece: int, calls: int) -> None:
    assert pool.calls_of(threads, items, piece) == calls


def test_without_threads_everything_is_one_call(tmp_path: Path) -> None:
    driver = tmp_path / "driver.c"
    driver.write_text("""
        #include "qcompiler_runtime.h"
        static int32_t calls, last;
        static void step(const void *frame, int32_t begin, int32_t end, int32_t worker) {
            (void)frame;
            calls += 1 + (begin != 0) + (worker != 0);
            last = end;
        }
        QCOMPILER_PUBLIC int32_t drive(void) {
            qcompiler_pool *pool = qcompiler_pool_create(4);
            qcompiler_parallel(pool, step, 0, 0, 1);
            qcompiler_parallel(pool, step, 0, 10, 3);
            qcompiler_pool_destroy(pool);
            return pool != 0 || qcompiler_pool_threads(pool) != 1 || calls != 1 || last != 10 || qcompiler_clock();
        }""")
    sources = [driver, RUNTIME / "qcompiler_pool.c", RUNTIME / "qcompiler_processor.c"]
    library = build(find_toolchain(), tmp_path, sources, {"QCOMPILER_NO_THREADS": "1"})
    assert library.drive() == 0


CPUINFO = {
    "x86_64": {
        "sse3": "pni", "ssse3": "ssse3", "sse4.1": "sse4_1", "sse4.2": "sse4_2", "popcnt": "popcnt", "avx": "avx",
        "avx2": "avx2", "fma": "fma", "f16c": "f16c", "bmi": "bmi1", "bmi2": "bmi2", "lzcnt": "abm", "movbe": "movbe",
        "avx512f": "avx512f", "avx512dq": "avx512dq", "avx512cd": "avx512cd", "avx512bw": "avx512bw",
        "avx512vl": "avx512vl", "avx512ifma": "avx512ifma", "avx512vbmi": "avx512vbmi", "avx512vbmi2": "avx512_vbmi2",
        "avx512vnni": "avx512_vnni", "avx512bitalg": "avx512_bitalg", "avx512vpopcntdq": "avx512_vpopcntdq",
        "avx512bf16": "avx512_bf16", "avx512fp16": "avx512_fp16", "avxvnni": "avx_vnni", "gfni": "gfni",
        "vaes": "vaes", "vpclmulqdq": "vpclmulqdq", "amx-tile": "amx_tile", "amx-int8": "amx_int8",
    },
    "aarch64": {"neon": "asimd", "dotprod": "asimddp", "fullfp16": "asimdhp", "i8mm": "i8mm", "sve": "sve",
                "sve2": "sve2", "lse": "atomics", "rdm": "asimdrdm", "bf16": "bf16", "crc": "crc32"},
}
"""What Linux calls the extensions, by LLVM's names."""

needs_cpuinfo = pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() not in CPUINFO, reason="Linux's list of extensions is the oracle"
)


def linux_extensions() -> set[str]:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() in ("flags", "Features"):
            return set(value.split())
    raise LookupError("/proc/cpuinfo lists no extensions")


@needs_cpuinfo
def test_missing_instructions_are_those_that_linux_does_not_list(processor: ctypes.CDLL) -> None:
    known, listed = CPUINFO[platform.machine()], linux_extensions()
    found = processor.qcompiler_missing_instructions(" ".join(known).encode())
    lacking = [name for name, linux in known.items() if linux not in listed]
    assert (found or b"").decode().split() == lacking


@needs_cpuinfo
def test_unknown_instructions_count_as_missing(processor: ctypes.CDLL) -> None:
    base = {"x86_64": "sse2", "aarch64": "neon"}[platform.machine()]
    ask = processor.qcompiler_missing_instructions
    assert ask(f"  {base} warp-drive  {base}x {base} ".encode()) == f"warp-drive {base}x".encode()
    assert ask(base[1:].encode()) == base[1:].encode()
    assert ask(base.encode()) is None
    assert ask(b"") is None
    assert ask(b" ") is None
    many = " ".join(f"unknown{i}" for i in range(200)).encode()
    assert many.startswith(ask(many))
