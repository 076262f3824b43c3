"""The benchmark: how late events are, and how fast the Sweeper starts them.

    python -m tools.bench lateness                      on the emulator on this machine
    python -m tools.bench lateness --stack punctual     a stack on AWS, in the account and Region of the environment
    python -m tools.bench sweep --events 10000          on the emulator

README.md in this folder says what it leaves behind, and which permissions it needs on AWS. The exit status is 1 if an
event was early or missing.
"""

import argparse
import os
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from tools.bench import lateness, sweep
from tools.local import LocalStack, LocalStackError


class AwsStack:
    """A stack on AWS, in the account and Region that the environment names."""

    def __init__(self, stack_name: str) -> None:
        self.stack_name = stack_name
        self._session: Any = boto3.Session()  # Any: the stubs accept only literal names of services

    def client(self, service: str, **config: Any) -> Any:
        return self._session.client(service, config=Config(**config))

    def physical_id(self, logical_id: str) -> str:
        """The name, URL or ARN of one of the stack's resources."""
        answer = self.client("cloudformation").describe_stack_resource(
            StackName=self.stack_name, LogicalResourceId=logical_id
        )
        return str(answer["StackResourceDetail"]["PhysicalResourceId"])

    def where(self) -> str:
        # If the environment names an endpoint, what answers there need not be AWS.
        return f"stack {self.stack_name} at {self.client('stepfunctions').meta.endpoint_url}"


@contextmanager
def local_stack() -> Iterator[LocalStack]:
    """Punctual, deployed to an emulator that ends with the block."""
    with LocalStack() as stack:
        stack.build()
        stack.deploy()
        stack.start_sweep()
        yield stack


def run_lateness(options: argparse.Namespace) -> bool:
    """Measure lateness, and print a report in Markdown. Returns whether no event was early or missing."""

    def measure(stack: AwsStack | LocalStack) -> list[lateness.Observation]:
        function = stack.client("lambda").get_function_configuration(FunctionName=stack.physical_id("Ingest"))
        load = lateness.Load(
            rate=options.rate,
            duration=options.seconds,
            fractions=options.fractions,
            parked=options.parked,
            lead=options.lead,
            horizon=int(function["Environment"]["Variables"]["HORIZON_SECONDS"]),
        )
        return lateness.measure(stack, load)

    if options.stack:
        aws = AwsStack(options.stack)
        observations, where = measure(aws), aws.where()
    else:
        with local_stack() as stack:
            observations, where = measure(stack), "a local emulator"
    print(f"{conditions()}, {where}. Milliseconds from the due time until the consumer's queue had the message.\n")
    rows = lateness.figures(observations)
    print(lateness.table(rows))
    return not any(row.early or row.missing for row in rows)


def run_sweep(options: argparse.Namespace) -> bool:
    """Measure the Sweeper, and print what it did. Returns whether it started every event."""
    with local_stack() as stack:
        swept = sweep.measure(stack, options.events)
    print(
        f"{conditions()}, a local emulator. {swept.started:,} of {options.events:,} events that were due in the same "
        f"second were started within {swept.seconds:.1f} s, {swept.rate:.0f} a second. "
        f"A bare loop starts {swept.bare_rate:.0f} a second."
    )
    return bool(swept.started == options.events)


def conditions() -> str:
    machine = f"{os.cpu_count()} cores ({platform.machine()}), {platform.system()}, Python {platform.python_version()}"
    return f"{datetime.now(UTC):%Y-%m-%d}, {machine}"


def main() -> None:
    formatter = argparse.ArgumentDefaultsHelpFormatter
    parser = argparse.ArgumentParser(prog="python -m tools.bench", description="Benchmark of Punctual")
    parts = parser.add_subparsers(metavar="PART", required=True)
    part = parts.add_parser("lateness", help="how late events are", formatter_class=formatter)
    part.add_argument("--stack", metavar="NAME", help="measure this stack on AWS instead of a local one")
    part.add_argument("--rate", type=int, default=4, help="events due in each second, on each path")
    part.add_argument("--seconds", type=int, default=60, help="time in which events are due")
    part.add_argument("--lead", type=float, default=6, help="seconds before its due time that an event is sent")
    part.add_argument("--fractions", type=float, default=0.5, help="share of dates with a fraction of a second")
    part.add_argument("--parked", type=float, default=0.5, help="share of events that are parked first")
    part.set_defaults(run=run_lateness)
    part = parts.add_parser("sweep", help="how fast the Sweeper starts events", formatter_class=formatter)
    part.add_argument("--events", type=int, default=5000, help="parked events, due in the same second")
    part.set_defaults(run=run_sweep)
    options = parser.parse_args()
    try:
        is_good: bool = options.run(options)
        sys.exit(not is_good)
    except (LocalStackError, BotoCoreError, ClientError) as error:
        sys.exit(f"\n{error}")


if __name__ == "__main__":
    main()
