"""What AWS gives: published quotas, and latencies that are mostly believed."""

import random

# Most can be raised on request.
QUOTA = {
    "StartExecution": 6_000,  # a second and at once, Express, in every large Region
    "register reads": 12_000,  # a second: a new on-demand table has 4 partitions of 3,000
    "table writes": 4_000,  # a second: a new on-demand table
    "partition writes": 1_000,  # a second
    "Lambda": 1_000,  # concurrent executions of an account and Region
}
# Of a new on-demand table; which lane is in which is left to chance.
PARTITIONS = 4
# Pollers of Lambda for one queue: at first, more each minute, at most.
POLLERS = (5, 300, 1_250)
# SNS: publishes a second, by Region; the input topic shares it. (https://docs.aws.amazon.com/general/latest/gr/sns.html)
PUBLISHES = {"us-east-1": 30_000, "us-west-2, eu-west-1": 9_000, "large others": 1_500, "small others": 300}

# Seconds. "transition" and "start CPU" were measured on AWS by others, the rest is believed.
LATENCY = {
    "transition": 0.010,
    "start CPU": 1 / 500,  # of a Sweeper's one processor: 1.5 ms in boto3, and its share of reading and deleting
    "start": 0.025,  # StartExecution, as its caller waits
    "DynamoDB": 0.008,
    "page": 0.030,  # a query of a megabyte
    "SNS": 0.030,
    "invoke": 0.05,
    "queued": 0.1,  # an asynchronous invocation, until it runs
    "cold start": 1.0,
    "SQS": 0.02,  # a poller's receive and delete
    "parse": 0.003,  # of Ingest's processor, a message
}


class Bucket:
    """A quota of so many calls a second, and as many at once. It throttles; it does not queue."""

    def __init__(self, rate: float):
        self.rate, self.tokens, self.at, self.throttled = rate, rate, float("-inf"), 0

    def take(self, now: float, wanted: int = 1) -> int:
        """How many of `wanted` calls pass at this moment."""
        if now > self.at:
            self.tokens = min(self.rate, self.tokens + self.rate * min(now - self.at, 1.0))
            self.at = now
        passed = min(wanted, int(self.tokens))
        self.tokens -= passed
        self.throttled += wanted - passed
        return passed


def backoff(attempt: int) -> float:
    """Seconds that botocore's standard retry mode waits after this attempt."""
    return min(random.random() * 2.0 ** (attempt - 1), 20.0)
