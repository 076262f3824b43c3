"""The AWS emulator (MiniStack), a process on 127.0.0.1: start, stop, restart, and find a running one."""

import contextlib
import fcntl
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import time
import urllib.request
from pathlib import Path
from typing import IO, Self

import trustme

ROOT = Path(__file__).resolve().parents[2]
LOCAL = ROOT / ".local"
RECORD = LOCAL / "stack.json"  # the emulator that save() recorded
KEPT_LOG = LOCAL / "emulator.log"  # the log of the last emulator with a failure
PYTHON = ROOT / ".venv/emulator/bin/python"
MINISTACK = Path(__file__).with_name("ministack.py")

HOST = "127.0.0.1"
ROOT_KEY = "test"  # MiniStack takes this access key as the account's root user, with or without IAM.
SERVICES = "cloudformation,dynamodb,iam,kms,lambda,logs,monitoring,s3,scheduler,sns,sqs,states,sts"

# Nothing of the user's own settings.
WITHOUT_SETTINGS = {
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    "AWS_EC2_METADATA_DISABLED": "true",
}

START_SECONDS = 30
STOP_SECONDS = 15  # MiniStack takes about 2 s to close its connections and write its state.


class LocalStackError(Exception):
    """The emulator or sam failed. The text is one sentence that says what to do or where to look."""


class Emulator:
    """One MiniStack process. Several can run side by side, each with its own port and folder."""

    region = "eu-central-1"  # of every client and of the functions

    def __init__(self, *, port: int | None = None, auth: bool = False) -> None:
        """Prepare an emulator; start() runs it.

        port: the port to listen on; a free one by default.
        auth: enforce IAM, so that a function can do only what its role allows. This also turns on TLS, because the
            template's policies deny requests without it.
        """
        self.port = port or _free_port()
        self.auth = auth
        self.folder = LOCAL / str(self.port)  # exists from start() to stop()
        self.log_path = self.folder / "emulator.log"  # includes the output of the functions
        self.pid: int | None = None
        # The file with the certificate to verify the emulator by; None without TLS.
        self.ca_bundle = str(self.folder / "authority.pem") if auth else None
        self._process: subprocess.Popen[bytes] | None = None  # None if another Python process started the emulator

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start the emulator and wait until it answers."""
        with socket.socket() as probe:
            if probe.connect_ex((HOST, self.port)) == 0:
                raise LocalStackError(
                    f"Port {self.port} is in use: choose another one, or stop the process that uses it"
                )
        shutil.rmtree(self.folder, ignore_errors=True)
        self._start_process()

    def stop(self) -> None:
        """Stop the emulator and its Lambda workers, and delete its folder."""
        self._end_process()
        shutil.rmtree(self.folder, ignore_errors=True)

    def restart(self) -> None:
        """Stop the emulator and start it again with its state. Running executions fail."""
        self._end_process()
        self._start_process()

    @property
    def running(self) -> bool:
        """Whether the emulator is alive. It holds a lock on its log, so another process with its pid does not count."""
        if self.pid is None or not self.log_path.exists():
            return False
        with self.log_path.open() as log:
            return not _lock(log)

    @property
    def endpoint(self) -> str:
        """The URL of all AWS services."""
        return f"{'https' if self.auth else 'http'}://{HOST}:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        """Environment variables that point SDKs, the AWS CLI and sam at the emulator, whatever the user's settings."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": ROOT_KEY,
            "AWS_SECRET_ACCESS_KEY": ROOT_KEY,
            "AWS_DEFAULT_REGION": self.region,
            **WITHOUT_SETTINGS,
            "AWS_DISABLE_HOST_PREFIX_INJECTION": "true",  # There is no host named sync-127.0.0.1.
            "AWS_PAGER": "",
            "NO_PROXY": HOST,
        } | ({"AWS_CA_BUNDLE": self.ca_bundle} if self.ca_bundle else {})

    def failure(self, what: str) -> LocalStackError:
        """An error that says what failed and where the emulator's log is, which stop() would delete."""
        shutil.copyfile(self.log_path, KEPT_LOG)
        error = LocalStackError(f"{what}: see {KEPT_LOG.relative_to(ROOT)}")
        error.add_note(KEPT_LOG.read_text())  # pytest shows it.
        return error

    def save(self) -> None:
        """Record the running emulator for load(). Only port and pid are kept: the rest must be the defaults."""
        RECORD.write_text(json.dumps({"port": self.port, "pid": self.pid}))

    @classmethod
    def load(cls) -> Self | None:
        """The emulator that another process recorded with save(), if it is still running."""
        try:
            record = json.loads(RECORD.read_text())
            emulator = cls(port=record["port"])
            emulator.pid = record["pid"]
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return None
        return emulator if emulator.running else None

    def _start_process(self) -> None:
        if not PYTHON.exists():
            raise LocalStackError("The emulator is not installed: run `make setup`")
        (self.folder / "tmp").mkdir(parents=True, exist_ok=True)
        environment = self._process_environment()
        with self.log_path.open("a") as log:
            if not _lock(log):
                raise LocalStackError(f"Another emulator is writing to {self.log_path}")
            self._process = subprocess.Popen(
                [PYTHON, "-P", MINISTACK],  # -P: without this folder, whose ministack.py it would import instead
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.pid = self._process.pid
        try:
            self._wait_until_ready(self._process)
        except BaseException:  # KeyboardInterrupt too: nothing else knows this process yet.
            self._end_process()
            raise

    def _process_environment(self) -> dict[str, str]:
        # The functions inherit it, so nothing of the user's own settings may be in it.
        environment = {name: os.environ[name] for name in ("HOME", "LANG", "PATH") if name in os.environ} | {
            "BIND_HOST": HOST,
            "GATEWAY_PORT": str(self.port),
            "SERVICES": SERVICES,
            "IOT_MTLS_ENABLED": "0",  # It would listen on every interface.
            "AUTH": str(self.auth).lower(),
            "MINISTACK_REGION": self.region,
            "PERSIST_STATE": "1",  # for restart()
            "STATE_DIR": str(self.folder / "state"),
            "TMPDIR": str(self.folder / "tmp"),
            **WITHOUT_SETTINGS,
            "AWS_ENDPOINT_URL": self.endpoint,
        }
        if self.ca_bundle:  # With a new certificate, which the functions trust.
            authority, certificate = trustme.CA(), str(self.folder / "certificate.pem")
            authority.cert_pem.write_to_path(self.ca_bundle)
            authority.issue_cert(HOST, "localhost").private_key_and_cert_chain_pem.write_to_path(certificate)
            environment |= {"USE_SSL": "1", "AWS_CA_BUNDLE": self.ca_bundle}
            environment |= {"MINISTACK_SSL_CERT": certificate, "MINISTACK_SSL_KEY": certificate}
        return environment

    def _wait_until_ready(self, process: subprocess.Popen[bytes]) -> None:
        give_up_at = time.monotonic() + START_SECONDS
        while not self._is_ready():
            if process.poll() is not None or time.monotonic() > give_up_at:
                reason = "it ended" if process.poll() is not None else f"no answer within {START_SECONDS} s"
                raise self.failure(f"The emulator did not start ({reason})")
            time.sleep(0.05)

    def _is_ready(self) -> bool:
        context = ssl.create_default_context(cafile=self.ca_bundle) if self.ca_bundle else None
        try:
            with urllib.request.urlopen(f"{self.endpoint}/_ministack/ready", timeout=1, context=context) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def _end_process(self) -> None:
        if self.pid is None or not self.running:
            return
        os.kill(self.pid, signal.SIGTERM)  # Not to its workers: it finishes its requests and writes its state.
        give_up_at = time.monotonic() + STOP_SECONDS
        while self.running and time.monotonic() < give_up_at:
            time.sleep(0.05)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        if self._process:
            self._process.wait()
        self.pid = None


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
    return port


def _lock(file: IO[str]) -> bool:
    """Lock a file, for as long as this process or one that inherits the file has it open. Returns whether it could."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
