"""AWS clients that retry, and that give up while the function can still say so."""

from functools import cache
from typing import Any

# Not boto3, which is this with a layer of resources and S3 transfers on top: a tenth of a second of every cold start.
from botocore.config import Config
from botocore.session import get_session

# One session for all clients of a function: it reads botocore's data files once.
_session = get_session()

# Every call is in the path of an event that may be due: a call that hangs is given up soon, and made again.
CONNECT_SECONDS, READ_SECONDS, ATTEMPTS = 1, 1, 3


@cache
def client(service: str, connections: int = 10, attempts: int = ATTEMPTS) -> Any:
    """The client for `service`, which `connections` threads may share.

    A call makes 3 attempts with backoff and jitter between them (botocore's standard mode: throttling, 5xx,
    connections). An attempt takes at most 2 seconds, 1 to connect and 1 to wait for the answer; the two pauses take at
    most 1 and 2. So a call takes at most 9 seconds, and 6 if it is only the answer that does not come. Whatever fails
    for longer is retried by the queue or by the next sweep.
    """
    return _session.create_client(
        service,
        config=Config(
            connect_timeout=CONNECT_SECONDS,
            read_timeout=READ_SECONDS,
            max_pool_connections=connections,
            # botocore builds its own for each request, which is a quarter of its CPU time for one.
            user_agent="Punctual",
            retries={"mode": "standard", "total_max_attempts": attempts},
        ),
    )
