"""How large the functions' packages are, and how much CPU time the import of Ingest takes."""

import io
import os
import subprocess
import zipfile
from pathlib import Path
from statistics import median
from typing import Any

from tools.bench.stacks import EMULATOR_PYTHON

IMPORTS = 5


def measure(build: Path, environment: dict[str, str]) -> dict[str, Any]:
    """The figures, by name. `build` is where `sam build` has put the functions, `environment` what Ingest has there."""
    functions = sorted(path.name for path in build.iterdir() if path.is_dir())
    ingest = build / "Ingest"
    zip_mb = {name: round(zipped_bytes(build / name) / 1e6, 2) for name in functions}
    uncompiled = median(import_cpu_seconds(ingest, environment) for _ in range(IMPORTS))
    subprocess.run([EMULATOR_PYTHON, "-m", "compileall", "-q", ingest], check=True)
    compiled = median(import_cpu_seconds(ingest, environment) for _ in range(IMPORTS))
    return {
        "zip_mb": zip_mb,
        "import_cpu_seconds": round(compiled, 3),
        "import_cpu_seconds_uncompiled": round(uncompiled, 3),
    }


def zipped_bytes(folder: Path) -> int:
    """The size of a function's package, compressed as sam does it."""
    with io.BytesIO() as memory:
        with zipfile.ZipFile(memory, "w", zipfile.ZIP_DEFLATED) as archive:
            for path in sorted(folder.rglob("*")):
                archive.write(path, path.relative_to(folder))
        return memory.tell()


def import_cpu_seconds(folder: Path, environment: dict[str, str]) -> float:
    """CPU time of importing Ingest in a new process, from the built package, with the emulator's botocore.

    Files that are not compiled are compiled each time, as in Lambda, where the compiled ones cannot be kept.
    """
    code = "import time; began = time.process_time(); import punctual_core.ingest; print(time.process_time() - began)"
    environment = environment | {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(folder),
        "PYTHONDONTWRITEBYTECODE": "1",
        "AWS_DEFAULT_REGION": "eu-central-1",
    }
    answer = subprocess.run([EMULATOR_PYTHON, "-c", code], env=environment, capture_output=True, check=True, text=True)
    return float(answer.stdout)
