"""Several ``.qir`` programs in one file, with a line ``// -----`` between them."""

from __future__ import annotations

import re

SEPARATOR = "// -----"


def split_programs(text: str) -> list[str]:
    """The programs of a file, each as text of its own.

    A program without a first line ``// qir 1`` takes that of the file. Lines keep their numbers, so that errors name
    lines of the file.

    Args:
        text: the content of the file.
    """
    parts = re.split(rf"^{SEPARATOR}[ \t]*\n", text, flags=re.MULTILINE)
    header = re.match(r"// qir \d+\n", text)
    if header is None:
        return parts
    programs, above = [], 0
    for part in parts:
        if part.lstrip().startswith("// qir "):
            programs.append(part.lstrip())
        else:
            programs.append(header[0] + "\n" * (above - 1) + part)
        above += part.count("\n") + 1
    return programs
