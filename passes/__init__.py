"""The built-in passes, one a file."""

if __name__ == "passes":
    raise ImportError("import qcompiler.passes, not passes: a second copy would register every pass twice")
