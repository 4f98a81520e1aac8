"""Settings of every test: no time limit for one example of hypothesis, and kernels that are compiled once."""

import os
import tempfile
from pathlib import Path

from hypothesis import settings

# A busy machine is no failure.
settings.register_profile("no-deadline", deadline=None)
settings.load_profile("no-deadline")

# Apart from the user's cache, whose measured tiles would change the code under test. Workers and later runs share it:
# an entry is never out of date.
_USER = os.getuid() if hasattr(os, "getuid") else "all"
os.environ["QCOMPILER_CACHE"] = str(Path(tempfile.gettempdir()) / f"qcompiler-tests-{_USER}")
