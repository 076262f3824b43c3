"""`pip install .` gives a publisher `punctual.Scheduler`; with the extra `cli` it gives the command `punctual`, too."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from punctual import __version__
from tools.cloudformation import ROOT

pytestmark = pytest.mark.slow
SOURCES = ("pyproject.toml", "README.md", "LICENSE", "punctual", "functions")
PYENV = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))


def oldest_python() -> str:
    """The path of Python 3.12, the oldest that the package supports; of this Python where there is none."""
    for python in ("python3.12", *sorted(PYENV.glob("versions/3.12*/bin/python"))):
        program = "import ensurepip, sys; print(sys.executable); sys.exit(sys.version_info[:2] != (3, 12))"
        asked = [python, "-c", program]
        if shutil.which(python) and (done := subprocess.run(asked, capture_output=True, text=True)).returncode == 0:
            return done.stdout.strip()
    return sys.executable


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the sources, because pip leaves its build folders beside them."""
    sources = tmp_path_factory.mktemp("sources")
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, sources / name, ignore=shutil.ignore_patterns("__pycache__", "*.pyc"))
        else:
            shutil.copy(ROOT / name, sources / name)
    return sources


@pytest.fixture(scope="module")
def client(sources: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of a new virtual environment with what a publisher installs."""
    environment = tmp_path_factory.mktemp("environment")
    run(oldest_python(), "-m", "venv", environment)
    python = environment / "bin" / "python"
    install(python, str(sources))
    return python


@pytest.fixture(scope="module")
def command(client: Path, sources: Path) -> Path:
    """The same with what an operator installs."""
    install(client, f"{sources}[cli]")
    return client


def install(python: Path, package: str) -> None:
    run(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", package)
    run(python, "-m", "pip", "check")


def run(*command: str | Path) -> str:
    """The output of a command that is run outside the repository."""
    done = subprocess.run(command, capture_output=True, text=True, cwd="/")
    assert done.returncode == 0, done.stderr
    return done.stdout


# In this order: the environment of the client becomes that of the command.


def test_a_publisher_needs_neither_click_nor_rich(client):
    program = """
import importlib.util
from datetime import timedelta
from punctual import InvalidEvent, Scheduler
assert not any(map(importlib.util.find_spec, ("click", "rich", "aws_lambda_powertools")))
topic = "arn:aws:sns:eu-central-1:123456789012:input"
try:
    Scheduler(topic).schedule(target=topic, payload="x", delay=timedelta(minutes=1))
except InvalidEvent as refused:
    print(refused)
"""
    assert run(client, "-c", program) == "target must not be the scheduler's input topic\n"


def test_without_its_extra_the_command_says_what_to_install(client):
    done = subprocess.run([client.parent / "punctual"], capture_output=True, text=True)
    sentence = 'punctual: the command needs more packages: pip install "punctual-scheduler[cli]"\n'
    assert (done.returncode, done.stderr) == (1, sentence)


def test_the_command_runs(command):
    assert run(command.parent / "punctual", "--help").startswith("Usage: punctual")
    assert run(command.parent / "punctual", "--version") == f"{__version__}\n"
    assert run(command, "-m", "punctual", "--version") == f"{__version__}\n"


def test_it_installs_no_top_level_module_that_could_be_somebody_elses(client):
    program = """
import importlib.metadata, json
files = importlib.metadata.files("punctual-scheduler")
print(json.dumps(sorted({file.parts[0] for file in files if file.parts[0] != ".."})))
"""
    installed = ["punctual", "punctual_core", f"punctual_scheduler-{__version__}.dist-info"]
    assert json.loads(run(client, "-c", program)) == installed
