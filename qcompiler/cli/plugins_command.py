"""``qcompiler plugins``."""

from __future__ import annotations

import typer

from qcompiler.cli.terminal import print_table


def plugins_command() -> None:
    """List the plugins that are installed, and what each has registered."""
    from qcompiler import plugins

    plugins.load()
    rows = []
    for plugin in plugins.installed():
        registered = plugins.registered_by(plugin)
        contents = "; ".join(f"{kind}: {', '.join(names)}" for kind, names in registered.items()) or "nothing"
        rows.append((
            plugin.name, plugin.distribution, plugin.version, plugin.module,
            contents if plugins.is_loaded(plugin) else "not loaded",
        ))
    if not rows:
        typer.echo("No plugins are installed.")
        return
    print_table(rows, ("plugin", "distribution", "version", "module", "registers"))
