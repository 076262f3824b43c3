"""Replaces the Sweeper on both engines: notes when it was called, and fails the third time if its name says so."""

import os
import time
from pathlib import Path
from typing import Any


def handler(event: dict, context: Any) -> dict:
    ticks = Path(os.environ["TICKS"]) / context.function_name.split(":")[-1]
    with ticks.open("a") as file:
        file.write(f"{time.time()}\n")
    if "failing" in ticks.name and len(ticks.read_text().splitlines()) == 3:
        raise RuntimeError("the third sweep fails")
    return {"started": 0, "failed": 0, "overdue_seconds": 0.0}
