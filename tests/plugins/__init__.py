"""Plugins and the registries that they register in."""
