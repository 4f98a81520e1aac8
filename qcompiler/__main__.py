"""``python -m qcompiler`` is the command line."""

from qcompiler.cli import main

if __name__ == "__main__":
    main()
