"""Punctual for operators (the command `punctual`) and for publishers (`Scheduler`)."""

from punctual_core.event import Rules

from .client import InvalidEvent, Scheduler

__all__ = ["InvalidEvent", "Rules", "Scheduler"]

# The only place where the version is written: pyproject.toml reads it, a test compares template.yaml and CHANGELOG.md.
__version__ = "0.1.0"
