"""The operator's command: `python -m punctual resend`."""

import argparse
import sys

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from punctual.resend import HIDDEN_SECONDS, resend


def main() -> None:
    """The console script `punctual`. Exits with 0, with 1 if AWS refused or messages stayed, with 2 for wrong usage."""
    parser = argparse.ArgumentParser(prog="punctual", description="Operate a deployed stack of Punctual")
    parser.add_argument("--stack", default="punctual", metavar="NAME", help="the CloudFormation stack (punctual)")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    command = commands.add_parser("resend", help="publish the events in the Undelivered queue again")
    command.set_defaults(run=_resend)
    options = parser.parse_args()
    try:
        options.run(options.stack)
    except (ClientError, BotoCoreError) as error:
        sys.exit(str(error))


def _resend(stack: str) -> None:
    [found] = boto3.client("cloudformation").describe_stacks(StackName=stack)["Stacks"]
    outputs = {output["OutputKey"]: output["OutputValue"] for output in found["Outputs"]}
    remaining = resend(boto3.client("sns"), boto3.client("sqs"), outputs["UndeliveredUrl"], outputs["InputTopicArn"])
    if remaining:
        sys.exit(f"{remaining} left in the queue; they become visible again in {HIDDEN_SECONDS // 60} minutes")


if __name__ == "__main__":
    main()
