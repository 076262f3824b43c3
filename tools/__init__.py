"""What developers run: the local stack, the benchmark, the drills, and the estimates of cost and bursts."""

import sys
from pathlib import Path

# In Lambda the package `punctual_core` is at the root of the deployment package, which is made from this folder.
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "functions"))
