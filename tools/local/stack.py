"""The local stack: an AWS emulator (MiniStack) on 127.0.0.1, and Punctual in it by the same `sam deploy` as on AWS.

From Python, with an emulator that ends with the block:

    with LocalStack(auth=True) as stack:
        stack.build()
        stack.deploy()
        stack.client("sns").publish(TopicArn=stack.outputs["InputTopicArn"], Message="...")

From the shell, with one that stays: `python -m tools.local up`, then `status` and `down`.
"""

import contextlib
import fcntl
import json
import os
import platform
import shutil
import signal
import socket
import ssl
import subprocess
import time
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, Self

import boto3
import botocore.session
import trustme
from botocore.config import Config

ROOT = Path(__file__).resolve().parents[2]
LOCAL = ROOT / ".local"
RECORD = LOCAL / "stack.json"  # which emulator `up` has left running
AWS = LOCAL / "aws"  # the AWS CLI, turned to that emulator

HOST = "127.0.0.1"
ROOT_KEY = "test"  # the access key that MiniStack takes for the account's root user, with IAM enforced or not
SERVICES = "cloudformation,dynamodb,iam,kms,lambda,logs,monitoring,s3,scheduler,sns,sqs,states,sts"
# The emulator runs the functions on this very machine.
ARCHITECTURE = "arm64" if platform.machine() in ("arm64", "aarch64") else "x86_64"

NO_PROFILE = {"profile": (None, None, None, None), "config_file": (None, None, os.devnull, None)}  # for botocore

START_SECONDS = 30
STOP_SECONDS = 15  # MiniStack takes about two to close its connections and to write its state


class LocalStackError(Exception):
    """The emulator or sam failed; the text says how, with the output."""


class LocalStack:
    """One emulator, and the CloudFormation stacks deployed to it. Several may run side by side."""

    def __init__(
        self,
        *,
        port: int | None = None,
        auth: bool = False,
        stack_name: str = "punctual",
        region: str = "eu-central-1",
        parameters: Mapping[str, str] | None = None,
        state_dir: Path | None = None,
        log_path: Path | None = None,
        functions_endpoint: str | None = None,
    ) -> None:
        """Say what to run; start() runs it.

        port: where the emulator listens; a free one by default.
        auth: whether IAM is enforced: what a function's role does not allow then fails. Policies that ask for TLS are
            enforced with it, so then there is TLS.
        stack_name, region: what is deployed, and where to.
        parameters: the template's, by name, for each deploy(); Architecture is the machine's own without being told.
        state_dir: where a stopped emulator leaves its state for the next one; by default nothing outlives stop().
        log_path: the emulator's log, functions' output included; by default it goes with stop().
        functions_endpoint: the URL that the functions take for AWS; by default the emulator's own.
        """
        self.port = port or _free_port()
        self.auth = auth
        self.stack_name = stack_name
        self.region = region
        self.parameters = {"Architecture": ARCHITECTURE} | dict(parameters or {})
        self.scratch = LOCAL / str(self.port)
        self.state_dir = state_dir or self.scratch / "state"
        self.log_path = log_path or self.scratch / "emulator.log"
        self.functions_endpoint = functions_endpoint or self.endpoint
        # Without the user's profile, which may not exist or may change what a client does.
        self._session = boto3.Session(botocore_session=botocore.session.Session(NO_PROFILE))
        self._authority = self.scratch / "authority.pem"  # the certificate of the one who signed the emulator's
        self.pid: int | None = None
        self._process: subprocess.Popen[bytes] | None = None  # none if another Python process has started it

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    # The emulator

    def start(self) -> None:
        """Start the emulator and wait until it is ready."""
        with socket.socket() as probe:
            if probe.connect_ex((HOST, self.port)) == 0:
                raise LocalStackError(f"Port {self.port} is in use: choose another, or end what listens there")
        shutil.rmtree(self.scratch, ignore_errors=True)
        self._start_process()

    def stop(self) -> None:
        """End the emulator with all its Lambda workers, and remove what they wrote."""
        self._end_process()
        shutil.rmtree(self.scratch, ignore_errors=True)

    def restart(self) -> None:
        """Stop the emulator and start it again with all it knew, except that the executions under way have failed."""
        self._end_process()
        self._start_process()

    @property
    def running(self) -> bool:
        """Whether the emulator is alive. It locks its log: no other process that has its old pid by now counts."""
        if self.pid is None or not self.log_path.exists():
            return False
        with self.log_path.open() as log:
            return not _lock(log)

    def _start_process(self) -> None:
        temporary = self.scratch / "tmp"
        temporary.mkdir(parents=True, exist_ok=True)
        # The functions inherit the emulator's environment, so nothing of the user's own may slip into it.
        environment = {name: os.environ[name] for name in ("HOME", "LANG", "PATH") if name in os.environ} | {
            "BIND_HOST": HOST,
            "GATEWAY_PORT": str(self.port),
            "SERVICES": SERVICES,
            "IOT_MTLS_ENABLED": "0",  # it would listen on every interface
            "AUTH": str(self.auth).lower(),
            "MINISTACK_REGION": self.region,
            "PERSIST_STATE": "1",
            "STATE_DIR": str(self.state_dir),
            "TMPDIR": str(temporary),
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_ENDPOINT_URL": self.functions_endpoint,
        }
        if self.auth:
            environment |= self._tls()
        with self.log_path.open("a") as log:
            if not _lock(log):
                raise LocalStackError(f"Another emulator is writing to {self.log_path}")
            self._process = subprocess.Popen(
                [ROOT / ".venv/emulator/bin/python", "-m", "ministack"],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.pid = self._process.pid
        give_up_at = time.monotonic() + START_SECONDS
        while not self._is_ready():
            if self._process.poll() is not None or time.monotonic() > give_up_at:
                log_end = "\n".join(self.log_path.read_text().splitlines()[-20:])
                self.stop()
                raise LocalStackError(f"The emulator did not start:\n{log_end}")
            time.sleep(0.05)

    def _tls(self) -> dict[str, str]:
        """Make the emulator a certificate. Returns the settings by which it uses it and its functions trust it."""
        authority = trustme.CA()
        certificate = authority.issue_cert(HOST, "localhost")
        authority.cert_pem.write_to_path(str(self._authority))
        chain, key = self.scratch / "certificate.pem", self.scratch / "key.pem"
        certificate.cert_chain_pems[0].write_to_path(str(chain))
        certificate.private_key_pem.write_to_path(str(key))
        return {
            "USE_SSL": "1",
            "MINISTACK_SSL_CERT": str(chain),
            "MINISTACK_SSL_KEY": str(key),
            "AWS_CA_BUNDLE": str(self._authority),
        }

    def _is_ready(self) -> bool:
        context = ssl.create_default_context(cafile=self._authority) if self.auth else None
        try:
            with urllib.request.urlopen(f"{self.endpoint}/_ministack/ready", timeout=1, context=context) as answer:
                return answer.status == 200
        except OSError:
            return False

    def _end_process(self) -> None:
        if not self.running:
            return
        os.kill(self.pid, signal.SIGTERM)  # without its workers: it finishes what it does and writes its state
        give_up_at = time.monotonic() + STOP_SECONDS
        while self.running and time.monotonic() < give_up_at:
            time.sleep(0.05)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        if self._process:
            self._process.wait()
        self.pid = None

    # What runs in it

    @property
    def endpoint(self) -> str:
        """The one URL of all AWS services here."""
        return f"{'https' if self.auth else 'http'}://{HOST}:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        """What turns any AWS SDK, the AWS CLI and sam to the emulator, whatever the user's own settings are."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": ROOT_KEY,
            "AWS_SECRET_ACCESS_KEY": ROOT_KEY,
            "AWS_DEFAULT_REGION": self.region,
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_DISABLE_HOST_PREFIX_INJECTION": "true",  # there is no host named sync-127.0.0.1
            "AWS_PAGER": "",
            "NO_PROXY": HOST,
        } | ({"AWS_CA_BUNDLE": str(self._authority)} if self.auth else {})

    @property
    def built(self) -> Path:
        """Where build() puts the functions and the template. Its own: `sam build` deletes what it finds."""
        return self.scratch / "build"

    def build(self) -> None:
        """`sam build`. It takes two seconds if nothing has changed."""
        LOCAL.mkdir(exist_ok=True)
        with (LOCAL / "build.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # all share the cache in .aws-sam/
            self._sam("build", {"Architecture": ARCHITECTURE}, "--build-dir", str(self.built))

    def deploy(self, parameters: Mapping[str, str] | None = None, *, stack_name: str | None = None) -> dict[str, str]:
        """`sam deploy` what build() built; return the stack's outputs. These parameters go before the constructor's."""
        stack_name = stack_name or self.stack_name
        template = str(self.built / "template.yaml")
        self._sam(
            "deploy", self.parameters | dict(parameters or {}), "--stack-name", stack_name, "--template-file", template
        )
        return self.outputs_of(stack_name)

    def _sam(self, command: str, parameters: Mapping[str, str], *options: str) -> None:
        users_own = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
        result = subprocess.run(
            ["sam", command, "--config-file", str(ROOT / "samconfig.toml"), "--config-env", "local"]
            + ["--region", self.region, *options, "--parameter-overrides"]
            + [f'{name}="{value}"' for name, value in parameters.items()],
            cwd=ROOT,
            env=users_own
            | self.environment
            | {
                # Also how sam finds the functions' Python: it takes no pyenv shim.
                "PATH": f"{ROOT / '.venv/sam/bin'}{os.pathsep}{os.environ['PATH']}",
                "SAM_CLI_TELEMETRY": "0",
                "SAM_CLI_POLL_DELAY": "0.1",  # a deploy takes 4 seconds instead of 10
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        if result.returncode:
            raise LocalStackError(f"sam {command} failed:\n{result.stdout}")

    @property
    def outputs(self) -> dict[str, str]:
        """The stack's outputs by name: InputTopicArn, DeliverArn and so on."""
        return self.outputs_of(self.stack_name)

    def outputs_of(self, stack_name: str) -> dict[str, str]:
        """The outputs of another stack that deploy() made."""
        [stack] = self.client("cloudformation").describe_stacks(StackName=stack_name)["Stacks"]
        return {output["OutputKey"]: output["OutputValue"] for output in stack.get("Outputs", [])}

    def client(self, service: str, **config: Any) -> Any:
        """A boto3 client that may do everything; config goes to botocore (max_pool_connections=50)."""
        return self._session.client(
            service,
            endpoint_url=self.endpoint,
            verify=str(self._authority) if self.auth else None,
            region_name=self.region,
            aws_access_key_id=ROOT_KEY,
            aws_secret_access_key=ROOT_KEY,
            config=Config(inject_host_prefix=False, proxies={}, **config),
        )

    def executions(self, machine_arn: str) -> list[dict[str, Any]]:
        """A state machine's executions, the latest first. The emulator lists those of Express too, as AWS does not."""
        pages = self.client("stepfunctions").get_paginator("list_executions").paginate(stateMachineArn=machine_arn)
        return [execution for page in pages for execution in page["executions"]]

    # From one process to the next

    def save(self) -> None:
        """Record the running emulator for load()."""
        RECORD.write_text(json.dumps({"port": self.port, "pid": self.pid}))

    @classmethod
    def load(cls) -> Self | None:
        """The emulator that another process recorded with save(), if it is still running."""
        if not RECORD.exists():
            return None
        record = json.loads(RECORD.read_text())
        stack = cls(port=record["port"])
        stack.pid = record["pid"]
        return stack if stack.running else None


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return probe.getsockname()[1]


def _lock(file: IO[str]) -> bool:
    """Whether nobody else holds the lock on this file. Now we do, and so does any process that inherits the file."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
