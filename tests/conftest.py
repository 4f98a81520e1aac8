"""Settings of every test: no time limit for one example of hypothesis, and kernels that are compiled once."""

import os
import tempfile
from pathlib import Path

from hypothesis import settings

# A busy machine is no failure. Every run draws anew, so that few examples a run are many in the long run;
# --hypothesis-profile=thorough draws more at once.
settings.register_profile("thorough", deadline=None, max_examples=300)
settings.register_profile("no-deadline", deadline=None, max_examples=50)
settings.load_profile("no-deadline")

# Apart from the user's cache, whose measured tiles would change the code under test. Workers and later runs share it:
# an entry is never out of date.
_USER = os.getuid() if hasattr(os, "getuid") else "all"
os.environ["QCOMPILER_CACHE"] = str(Path(tempfile.gettempdir()) / f"qcompiler-tests-{_USER}")
