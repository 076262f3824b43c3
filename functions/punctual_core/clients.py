"""AWS clients that retry, and that give up while the function can still say so."""

from functools import cache
from typing import Any

# Not boto3, which is this with a layer of resources and S3 transfers on top: a tenth of a second of every cold start.
from botocore.config import Config
from botocore.session import get_session

# One session for all clients of a function: it reads botocore's data files once.
_session = get_session()

CONNECT_SECONDS, READ_SECONDS, ATTEMPTS = 1, 3, 3


@cache
def client(service: str, connections: int = 10) -> Any:
    """The client for `service`, which `connections` threads may share.

    A call makes 3 attempts of at most 4 seconds with backoff and jitter between them (botocore's standard mode:
    throttling, 5xx, connections), so at most 15 seconds. Whatever fails for longer is retried by the queue or by the
    next sweep.
    """
    return _session.create_client(
        service,
        config=Config(
            connect_timeout=CONNECT_SECONDS,
            read_timeout=READ_SECONDS,
            max_pool_connections=connections,
            # botocore puts its own together anew for each request, which is a quarter of its CPU time for one.
            user_agent="Punctual",
            retries={"mode": "standard", "total_max_attempts": ATTEMPTS},
        ),
    )
