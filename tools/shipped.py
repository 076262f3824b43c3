"""The Sweeper's module, for the constants that the estimates share with it. It reads its environment on import."""

import os
from unittest.mock import patch

from tools.cloudformation import REGION, Template

# Where a variable is set already, as in the tests, it stays.
with patch.dict(os.environ, {"AWS_DEFAULT_REGION": REGION, **Template().environment("Sweeper"), **os.environ}):
    from punctual_core import sweeper

__all__ = ["sweeper"]
