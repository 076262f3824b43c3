"""`pip install .` gives the command `punctual`, and the top-level modules `punctual` and `punctual_core`."""

import json
import shutil
import subprocess
import venv
from pathlib import Path

import pytest

from punctual import __version__
from tools.cloudformation import ROOT

SOURCES = ("pyproject.toml", "README.md", "LICENSE", "punctual", "functions")


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of a new virtual environment with Punctual. It is installed from a copy of the sources, because pip
    leaves its build folders beside them."""
    sources, environment = tmp_path_factory.mktemp("sources"), tmp_path_factory.mktemp("environment")
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, sources / name, ignore=shutil.ignore_patterns("__pycache__", "*.pyc"))
        else:
            shutil.copy(ROOT / name, sources / name)
    venv.create(environment, with_pip=True)
    python = environment / "bin" / "python"
    run(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", str(sources))
    run(python, "-m", "pip", "check")
    return python


def run(*command: str | Path) -> str:
    """The output of a command that is run outside the repository."""
    done = subprocess.run(command, capture_output=True, text=True, cwd="/")
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_the_command_runs(python):
    assert run(python.parent / "punctual", "--help").startswith("Usage: punctual")
    assert run(python.parent / "punctual", "--version") == f"{__version__}\n"
    assert run(python, "-m", "punctual", "--version") == f"{__version__}\n"


@pytest.mark.slow
def test_it_installs_no_top_level_module_that_could_be_somebody_elses(python):
    program = """
import importlib.metadata, json
files = importlib.metadata.files("punctual")
print(json.dumps(sorted({file.parts[0] for file in files if file.parts[0] != ".."})))
"""
    assert json.loads(run(python, "-c", program)) == ["punctual", f"punctual-{__version__}.dist-info", "punctual_core"]
