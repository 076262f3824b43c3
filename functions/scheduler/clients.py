"""Clients of AWS that try again, and that give up while the function still has time to say so."""

from functools import cache
from typing import Any

# Not boto3, which is this with a layer of resources and S3 transfers on top: a tenth of a second of every cold start.
from botocore.config import Config
from botocore.session import get_session

# One session for all clients of a function: it reads botocore's data files once.
_session = get_session()


@cache
def client(service: str, connections: int = 10) -> Any:
    """The client for `service`, which `connections` threads may share.

    Four attempts with backoff and jitter (botocore's standard mode: throttling, 5xx, connections), each of 4 seconds at
    the most: 23 seconds in all, less than any function here has that uses it.
    """
    return _session.create_client(
        service,
        config=Config(
            connect_timeout=1,
            read_timeout=3,
            max_pool_connections=connections,
            retries={"mode": "standard", "total_max_attempts": 4},
        ),
    )
