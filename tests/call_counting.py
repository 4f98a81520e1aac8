"""How much work something does, counted in calls: unlike seconds, the same on every machine."""

from __future__ import annotations

import sys
from collections.abc import Callable


def calls_made(run: Callable[[], object]) -> int:
    """Calls of Python functions while ``run`` runs."""
    count = 0

    def profile(frame: object, event: str, argument: object) -> None:
        nonlocal count
        count += event == "call"

    sys.setprofile(profile)
    try:
        run()
    finally:
        sys.setprofile(None)
    return count
