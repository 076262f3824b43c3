"""The command `punctual`: its options, its groups of commands, and how errors become one sentence and an exit code."""

import re
import sys
from collections.abc import Sequence
from typing import NoReturn

import click
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionError,
    CredentialRetrievalError,
    HTTPClientError,
    NoCredentialsError,
    NoRegionError,
    PartialCredentialsError,
    TokenRetrievalError,
    UnauthorizedSSOTokenError,
)

from . import __version__
from .check import check_command
from .client import InvalidEvent
from .life import show_command
from .parked import count_command, list_command
from .publishing import cancel_command, schedule_command
from .queues import redrive_command, resend_command
from .schema import schema_command
from .stack import NotConfigured, NotPunctual, Stack

EXIT_CODES = "Exit codes: 0 done; 1 refused by AWS, or not everything was done; 2 wrong usage."
# As CloudFormation takes it: a name, or the stack's ARN.
STACK_NAME = re.compile(r"[A-Za-z][A-Za-z0-9-]{0,127}|arn:[^\s]+")


def _stack_name(context: click.Context, parameter: click.Parameter, name: str) -> str:
    if not STACK_NAME.fullmatch(name):
        raise click.BadParameter(f"{name!r} cannot be the name of a stack")
    return name


@click.group(epilog=EXIT_CODES, no_args_is_help=False)
@click.option(
    "--stack",
    default="punctual",
    show_default=True,
    callback=_stack_name,
    metavar="NAME",
    help="Name of the CloudFormation stack.",
)
@click.option("--json", is_flag=True, help="Print the result as JSON.")
@click.version_option(__version__, message="%(version)s")
@click.pass_context
def punctual(context: click.Context, stack: str, json: bool) -> None:
    """Operate a deployed stack of Punctual.

    Credentials, Region, and endpoint are found as by any AWS SDK (AWS_PROFILE, AWS_DEFAULT_REGION, AWS_ENDPOINT_URL).
    """
    context.obj = Stack(stack)


for command in (
    schedule_command,
    cancel_command,
    list_command,
    count_command,
    show_command,
    check_command,
    resend_command,
    redrive_command,
    schema_command,
):
    punctual.add_command(command)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command (by default with the process's arguments) and exit."""
    try:
        # Not click's standalone mode: it answers wrong usage with three lines.
        code = punctual.main(arguments, prog_name="punctual", standalone_mode=False)
    except click.UsageError as error:
        command = error.ctx.command_path if error.ctx else "punctual"
        _fail(2, f"{error.format_message().rstrip('.')} (see {command} --help)")
    except click.ClickException as error:
        _fail(1, error.format_message())
    except click.Abort:  # Ctrl-C
        sys.exit(130)
    except BrokenPipeError:  # The reader, such as `head`, has enough.
        sys.stderr.close()
        sys.exit(1)
    except InvalidEvent as error:
        _fail(2, str(error))
    except (NotConfigured, NotPunctual) as error:
        _fail(1, str(error))
    except (ClientError, BotoCoreError) as error:
        _fail(1, _sentence(error))
    sys.exit(code or 0)


def _fail(code: int, sentence: str) -> NoReturn:
    click.echo(f"punctual: {' '.join(sentence.split())}", err=True)
    sys.exit(code)


def _sentence(error: ClientError | BotoCoreError) -> str:
    """What an error of AWS or its SDK means for the user."""
    match error:
        case NoRegionError():
            return (
                "no AWS Region is configured: set AWS_DEFAULT_REGION, or choose a profile that names one (AWS_PROFILE)"
            )
        case NoCredentialsError() | PartialCredentialsError():
            return "no AWS credentials were found: log in, or choose a profile that has some (AWS_PROFILE)"
        case CredentialRetrievalError() | TokenRetrievalError() | UnauthorizedSSOTokenError():
            return f"the AWS credentials could not be loaded: {error}"
        case ConnectionError() | HTTPClientError():
            return f"AWS cannot be reached: {error}"
        case ClientError():
            answer = error.response.get("Error", {})
            code, message = answer.get("Code", "unknown error"), answer.get("Message", "").rstrip(".")
            if "AccessDenied" in code or "AuthorizationError" in code or "Unauthorized" in code:
                return f"permission denied: {message or error.operation_name}"
            if code == "ValidationError" and error.operation_name == "DescribeStacks":
                return f"{message} in this account and Region (name another with --stack)"
            return f"{error.operation_name} failed: {code}: {message}"
        case _:
            return str(error)
