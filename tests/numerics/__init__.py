"""Arithmetic against its definition in exact numbers."""
