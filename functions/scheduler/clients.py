"""Clients of AWS that try again, and that give up while the function still has time to say so."""

from typing import Any

import boto3
from botocore.config import Config

# One session for all clients of a function: it reads botocore's data files once.
_session = boto3.Session()


def client(service: str, connections: int = 10) -> Any:
    """A client for `service`, safe to share among `connections` threads.

    Four attempts with backoff and jitter (botocore's standard mode: throttling, 5xx, connections), each of 4 seconds at
    the most: 23 seconds in all, less than any function here has that uses it.
    """
    return _session.client(
        service,
        config=Config(
            connect_timeout=1,
            read_timeout=3,
            max_pool_connections=connections,
            retries={"mode": "standard", "total_max_attempts": 4},
        ),
    )
