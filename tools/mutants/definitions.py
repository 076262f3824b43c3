"""Mutants of the definitions of the state machines."""

from collections.abc import Iterator
from pathlib import Path

from tools.mutants.mutations import Mutant


def mutants(root: Path) -> Iterator[Mutant]:
    """Every mutant of the definitions in a checkout."""
    yield from ()
