"""The Acme NPU: importing this registers everything that it hands in."""

from qcompiler.target import register_target

from . import hypot, lanes, listing, recognize, snake  # noqa: F401 - each registers what it defines

register_target("acme-npu.toml")
