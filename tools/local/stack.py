"""Punctual on the emulator, deployed by the same `sam build` and `sam deploy` as on AWS.

From Python, with an emulator that ends with the block:

    with LocalStack(auth=True) as stack:
        stack.build()
        stack.deploy()
        stack.client("sns").publish(TopicArn=stack.outputs["InputTopicArn"], Message="...")

From the shell, with one that keeps running: `python -m tools.local up`, then `down`.
"""

import fcntl
import os
import platform
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import boto3
import botocore.session
from botocore.config import Config

from tools.local.emulator import LOCAL, ROOT, ROOT_KEY, Emulator, LocalStackError

SAM = ROOT / ".venv/sam/bin/sam"
# The emulator runs the functions on this machine.
ARCHITECTURE = "arm64" if platform.machine() in ("arm64", "aarch64") else "x86_64"

NO_PROFILE = {"profile": (None, None, None, None), "config_file": (None, None, os.devnull, None)}  # for botocore


class LocalStack(Emulator):
    """An emulator and the CloudFormation stacks deployed to it."""

    stack_name = "punctual"  # what deploy() and outputs mean by default

    def __init__(self, *, port: int | None = None, auth: bool = False) -> None:
        """Prepare an emulator (see Emulator); start() runs it, build() and deploy() put Punctual on it."""
        super().__init__(port=port, auth=auth)
        # Any: boto3-stubs has one overload per service, and client() takes the service's name as a variable.
        # Without the user's profile, which may be missing or change what a client does.
        self._session: Any = boto3.Session(botocore_session=botocore.session.Session(NO_PROFILE))

    def build(self, source: Path = ROOT, build: str = "build") -> None:
        """Run `sam build`. It takes two seconds if nothing has changed.

        source: the folder of template.yaml.
        build: a name for what is built. Each emulator has its own, because `sam build` deletes what it finds.
        """
        LOCAL.mkdir(exist_ok=True)
        with (LOCAL / "build.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # The cache in .aws-sam/ is shared.
            self._sam("build", {}, "--build-dir", f"{self.folder}/{build}", source=source)

    def deploy(self, parameters: Mapping[str, str] = {}, *, stack_name: str = "", build: str = "build") -> None:
        """Run `sam deploy` on what build() built, with these template parameters."""
        name, template = stack_name or self.stack_name, f"{self.folder}/{build}/template.yaml"
        self._sam("deploy", parameters, "--stack-name", name, "--template-file", template)

    @property
    def outputs(self) -> dict[str, str]:
        """The stack's outputs by name: InputTopicArn, DeliverArn and so on."""
        [stack] = self.client("cloudformation").describe_stacks(StackName=self.stack_name)["Stacks"]
        return {output["OutputKey"]: output["OutputValue"] for output in stack.get("Outputs", [])}

    def output(self, key: str) -> str:
        """The value of one of the stack's outputs."""
        return self.outputs[key]

    def physical_id(self, logical_id: str) -> str:
        """The name, URL or ARN of one of the stack's resources."""
        detail = self.client("cloudformation").describe_stack_resource(
            StackName=self.stack_name, LogicalResourceId=logical_id
        )["StackResourceDetail"]
        return str(detail["PhysicalResourceId"])

    def messages_in(self, queue: str) -> int:
        """How many messages one of the stack's queues holds, by its logical id; also those that somebody works on."""
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        answer = self.client("sqs").get_queue_attributes(QueueUrl=self.physical_id(queue), AttributeNames=names)
        return sum(map(int, answer["Attributes"].values()))

    def client(self, service: str, **config: Any) -> Any:
        """A boto3 client with every permission. `config` goes to botocore (max_pool_connections=50)."""
        return self._session.client(
            service,
            endpoint_url=self.endpoint,
            verify=self.ca_bundle,
            region_name=self.region,
            aws_access_key_id=ROOT_KEY,
            aws_secret_access_key=ROOT_KEY,
            config=Config(inject_host_prefix=False, proxies={}, **config),
        )

    def start_sweep(self, **name: str) -> None:
        """Start an execution of Sweep now, instead of at the next whole minute."""
        self.client("stepfunctions").start_execution(stateMachineArn=self.outputs["SweepArn"], **name)

    def executions(self, machine_arn: str) -> list[dict[str, Any]]:
        """A state machine's executions, the latest first. Unlike AWS, the emulator also lists Express executions."""
        pages = self.client("stepfunctions").get_paginator("list_executions").paginate(stateMachineArn=machine_arn)
        return [execution for page in pages for execution in page["executions"]]

    def _sam(self, command: str, parameters: Mapping[str, str], *options: str, source: Path = ROOT) -> None:
        if not SAM.exists():
            raise LocalStackError("sam is not installed: run `make setup`")
        parameters = {"Architecture": ARCHITECTURE, **parameters}
        without_aws = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
        result = subprocess.run(
            [str(SAM), command, "--config-file", str(ROOT / "samconfig.toml"), "--config-env", "local"]
            + ["--region", self.region, *options, "--parameter-overrides"]
            + [f'{name}="{value}"' for name, value in parameters.items()],
            cwd=source,
            env=without_aws
            | self.environment
            | {
                # sam takes the first Python on the PATH for the functions, and can't use a pyenv shim.
                "PATH": f"{SAM.parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
                "SAM_CLI_TELEMETRY": "0",
                "SAM_CLI_POLL_DELAY": "0.1",  # A deployment takes 4 seconds instead of 10.
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        if result.returncode:
            log = LOCAL / f"sam-{command}.log"
            log.write_text(result.stdout)
            error = LocalStackError(f"sam {command} failed: {reason_in(result.stdout)} ({log.relative_to(ROOT)})")
            error.add_note(result.stdout)  # pytest shows it.
            raise error


def reason_in(output: str) -> str:
    """The line of sam's output that says what went wrong: the last one that starts with "Error:", or the last one."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [line.removeprefix("Error:").strip() for line in lines if line.startswith("Error:")]
    return (errors or lines or ["no output"])[-1].rstrip(".")
