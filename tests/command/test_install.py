"""`pip install .` gives a publisher `punctual.Scheduler`; with the extra `cli` it gives the command `punctual`, too."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from punctual import __version__
from tools.cloudformation import ROOT

pytestmark = pytest.mark.slow


def run(*command: str | Path, code: int = 0) -> str:
    """The output of a command that is run outside the repository; of one that fails, its error."""
    done = subprocess.run(command, capture_output=True, text=True, cwd="/")
    assert done.returncode == code, done.stderr
    return done.stderr if code else done.stdout


def oldest_python() -> str:
    """The path of Python 3.12, the oldest that the package supports; of this Python where there is none."""
    for python in ("python3.12", *map(str, Path.home().glob(".pyenv/versions/3.12*/bin/python"))):
        # Debian's may have no venv, and pyenv's command may stand for a version that is not chosen.
        asked = [python, "-c", "import ensurepip"]
        if shutil.which(python) and subprocess.run(asked, capture_output=True).returncode == 0:
            return python
    return sys.executable


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the sources, because pip leaves its build folders beside them."""
    others = shutil.ignore_patterns(".*", "__pycache__", "build", "node_modules", "tests", "*.egg-info")
    return Path(shutil.copytree(ROOT, tmp_path_factory.mktemp("sources") / "copy", ignore=others))


@pytest.fixture(scope="module")
def client(sources: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of a new virtual environment with what a publisher installs."""
    environment = tmp_path_factory.mktemp("environment")
    run(oldest_python(), "-m", "venv", environment)
    return install(environment / "bin" / "python", str(sources))


@pytest.fixture(scope="module")
def command(client: Path, sources: Path) -> Path:
    """The same with what an operator installs."""
    return install(client, f"{sources}[cli]")


def install(python: Path, package: str) -> Path:
    run(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", package)
    run(python, "-m", "pip", "check")
    return python


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
    sentence = 'punctual: the command needs more packages: pip install "punctual-scheduler[cli]"\n'
    assert run(client.parent / "punctual", code=1) == sentence


def test_the_command_runs(command):
    assert run(command.parent / "punctual", "--help").startswith("Usage: punctual")
    assert run(command, "-m", "punctual", "--version") == f"{__version__}\n"


def test_it_installs_no_top_level_module_that_could_be_somebody_elses(client):
    program = """
import importlib.metadata, json
files = importlib.metadata.files("punctual-scheduler")
print(json.dumps(sorted({file.parts[0] for file in files if file.parts[0] != ".."})))
"""
    installed = ["punctual", "punctual_core", f"punctual_scheduler-{__version__}.dist-info"]
    assert json.loads(run(client, "-c", program)) == installed
