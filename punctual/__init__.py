"""Punctual's command line for operators."""

# The only place where the version is written: pyproject.toml reads it, a test compares template.yaml and CHANGELOG.md.
__version__ = "0.1.0"
