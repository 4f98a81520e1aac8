"""``qcompiler bench``: what it prints, and what it refuses. Times are never looked at."""

import re
from pathlib import Path

import numpy as np
import onnx
import pytest
from models import ModelWriter

from cli.command_line import images, refuse, small_cnn, succeed
from qcompiler.backends.tvm.native_library import NativeLibrary
from qcompiler.benchmark import interleaved

COMPILE = ("compile", "model.onnx", "--target", "tpu-int8", "--data", "calib.npz", "--native", "-o", "build")

NUMBER = r"\d+\.\d+"


@pytest.fixture(autouse=True)
def short_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TURN_SECONDS", "WARM_UP_SECONDS", "PAUSE_SECONDS"):
        monkeypatch.setattr(interleaved, name, 0.0001)


def test_times_by_thread() -> None:
    succeed(*COMPILE)
    lines = succeed("bench", "build", "--rounds", 1).splitlines()
    assert re.fullmatch(r"one inference on random numbers, batch 1, [\w-]+", lines[0])
    assert lines[1].split() == ["threads", "runs", "median", "ms", "minimum", "ms"]
    assert [re.sub(NUMBER, "T", line).split() for line in lines[2:]] == [
        ["1", "qcompiler", "T", "T"], ["2", "qcompiler", "T", "T"],
    ]


def test_the_table_says_how_many_threads_there_were(monkeypatch: pytest.MonkeyPatch) -> None:
    succeed(*COMPILE)
    monkeypatch.setattr(NativeLibrary, "working_threads", lambda self, threads: threads - 1)
    *_, row = succeed("bench", "build", "--rounds", 1, "--threads", 3).splitlines()
    assert row.split()[:2] == ["2", "qcompiler"]


def test_ratios_against_a_model_on_given_data() -> None:
    succeed(*COMPILE)
    np.save("x.npy", images(5, seed=1))
    text = succeed("bench", "build", "--against", "model.onnx", "--data", "x.npy", "--threads", 1, "--rounds", 2)
    title, header, ours, theirs = text.splitlines()
    assert title.startswith("one inference on the first sample of x.npy, batch 1, ")
    assert "median / ours  minimum / ours" in header
    assert re.fullmatch(rf"1 +qcompiler +{NUMBER} +{NUMBER} +1\.00 +1\.00", ours)
    median, minimum = (float(number) for number in ours.split()[2:4])
    match = re.fullmatch(rf"1 +ONNX Runtime +({NUMBER}) +({NUMBER}) +({NUMBER}) +({NUMBER})", theirs)
    assert match is not None
    their_median, their_minimum, ratio, minimum_ratio = map(float, match.groups())
    # Printed times are rounded to 0.0005 ms.
    for theirs_ms, ours_ms, printed in ((their_median, median, ratio), (their_minimum, minimum, minimum_ratio)):
        low, high = (theirs_ms - 0.0005) / (ours_ms + 0.0005), (theirs_ms + 0.0005) / max(ours_ms - 0.0005, 1e-9)
        assert low - 0.005 <= printed <= high + 0.005


def test_the_profile_names_the_users_layers() -> None:
    succeed(*COMPILE)
    text = succeed("bench", "build", "--threads", 2, "--rounds", 1, "--profile")
    title, header, *steps = text.splitlines()[3:]
    assert re.fullmatch(r"where the time goes: 2 threads, \d+ steps", title)
    assert header.split() == ["us", "share", "layers"]
    for layer in ("Conv_0", "Gemm"):
        assert any(layer in line for line in steps)
    shares = [float(match) for line in steps for match in re.findall(r"(\d+\.\d)%", line)]
    assert len(shares) == len(steps) == int(re.findall(r"(\d+) steps", title)[0])
    assert shares == sorted(shares, reverse=True)
    assert abs(sum(shares) - 100) < 0.05 * len(shares) + 0.01


def test_the_profile_sums_up_what_it_leaves_out() -> None:
    succeed(*COMPILE)
    text = succeed("bench", "build", "--threads", 1, "--rounds", 1, "--profile", "--top", 1)
    title, _, first, rest = text.splitlines()[3:]
    steps = int(re.findall(r"1 thread, (\d+) steps", title)[0])
    assert steps > 2
    assert rest.endswith(f"  {steps - 1} more")
    assert "more" not in first


def test_programs_with_nodes_on_the_host() -> None:
    w = ModelWriter(3)
    w.nodes.append(onnx.helper.make_node("Selu", [w.conv("image", 2, 4)], ["selu"], name="selu"))
    model = w.model({"image": ["batch", 2, 6, 6]}, [w.conv("selu", 4, 3)])
    onnx.save(model, "model.onnx")
    compile_for_host = [word if word != "tpu-int8" else "cpu-int8" for word in COMPILE]
    assert "on the host   none" not in succeed(*compile_for_host)
    text = succeed("bench", "build", "--threads", 1, "--rounds", 1, "--against", "model.onnx", "--profile")
    for word in ("ONNX Runtime", "Conv_0", "Conv_2"):
        assert word in text


def test_what_is_refused() -> None:
    refuse("bench", "nothing", naming=("nothing is no compiled program",))
    succeed(*COMPILE[:-3], "--no-native", "-o", "plain")
    refuse("bench", "plain", naming=("plain holds no native code", "qcompiler native plain"))
    succeed(*COMPILE)
    np.savez("wrong.npz", image=np.zeros((1, 2, 6, 5), np.float32))
    np.savez("unknown.npz", image=images(1), picture=images(1))
    np.save("empty.npy", images(0))
    np.save("integers.npy", np.zeros((1, 2, 6, 6), np.int8))
    for name, words in (
        ("wrong.npz", ("input 'image' does not fit", "float32[1, 2, 6, 5]")),
        ("unknown.npz", ("no input 'picture'",)),
        ("empty.npy", ("input 'image' does not fit", "float32[0, 2, 6, 6]")),
        ("integers.npy", ("input 'image' does not fit", "int8[1, 2, 6, 6]")),
        ("none.npy", ("none.npy",)),
    ):
        refuse("bench", "build", "--data", name, naming=words)


def test_models_that_cannot_be_compared() -> None:
    succeed(*COMPILE)
    refuse("bench", "build", "--against", "none.onnx", naming=("'none.onnx' does not exist",))
    Path("text.onnx").write_text("no model")
    refuse("bench", "build", "--against", "text.onnx", naming=("ONNX Runtime does not take 'text.onnx'",))
    w = ModelWriter(1)
    onnx.save(w.model({"picture": ["batch", 2, 6, 6]}, [w.conv("picture", 2, 4)]), "other.onnx")
    refuse("bench", "build", "--against", "other.onnx", naming=("inputs image", "inputs picture"))
    w = ModelWriter(1)
    onnx.save(w.model({"image": ["batch", 3, 6, 6]}, [w.conv("image", 3, 4)]), "larger.onnx")
    refuse("bench", "build", "--against", "larger.onnx", naming=("'larger.onnx' does not take this sample",))


def test_tuned_programs_compute_the_same(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("QCOMPILER_CACHE", str(tmp_path / "cache"))
    onnx.save(small_cnn(), "model.onnx")
    succeed(*COMPILE, "--tune")
    assert list((tmp_path / "cache" / "tiles").glob("*.json"))
    np.save("x.npy", images(4, seed=2))
    for backend in ("native", "reference"):
        succeed("run", "build", "--data", "x.npy", "-o", f"{backend}.npz", "--backend", backend)
    (native,), (reference,) = np.load("native.npz").values(), np.load("reference.npz").values()
    np.testing.assert_array_equal(native, reference)


def test_tuning_needs_native_code() -> None:
    refuse(*COMPILE[:-3], "--no-native", "--tune", "-o", "build", naming=("--tune without native code", "--native"))
