"""The command `punctual`: its options, its groups of commands, and how errors become one sentence and an exit code."""

import json
import re
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

import click
from botocore.exceptions import BotoCoreError, ClientError

from . import InvalidEvent, __version__
from .cancel import cancel_command
from .check import check_command
from .interruption import exit_on_signals
from .listing import count_command, list_command
from .output import IS_JSON, give_up_stdout
from .queues import redrive_command, resend_command
from .schedule import reschedule_command, schedule_command
from .schema import schema_command
from .show import show_command
from .stack import NotConfigured, NotPunctual, Stack, sentence_of
from .web.command import web_command

EXIT_CODES = "Exit codes: 0 done; 1 refused by AWS, or not everything was done; 2 wrong usage."
# As CloudFormation takes it: a name, or the stack's ARN.
STACK_NAME = re.compile(r"[A-Za-z][A-Za-z0-9-]{0,127}|arn:[^\s]+")


def _set(context: click.Context, parameter: click.Parameter, value: Any) -> None:
    """Take note of an option that stands before the command or after it; the one after it wins."""
    if value is None or value is False:
        return
    if parameter.name == "json":
        context.meta[IS_JSON] = True
        return
    if parameter.name == "stack" and not STACK_NAME.fullmatch(value):
        raise click.BadParameter(f"{value!r} cannot be the name of a stack")
    stack = context.find_root().ensure_object(Stack)
    setattr(stack, "name" if parameter.name == "stack" else str(parameter.name), value)


def _shared_options(*, is_group: bool) -> list[click.Parameter]:
    def option(name: str, **settings: Any) -> click.Option:
        return click.Option([name], expose_value=False, callback=_set, hidden=not is_group, **settings)

    stack_help = "Name of the CloudFormation stack.  [default: punctual]"
    from_environment = {"envvar": "PUNCTUAL_STACK", "show_envvar": True} if is_group else {}
    return [
        option("--stack", metavar="NAME", help=stack_help, **from_environment),
        option("--region", metavar="REGION", help="AWS Region of the stack."),
        option("--profile", metavar="PROFILE", help="Profile of the AWS configuration."),
        option("--json", is_flag=True, help="Print the result as JSON, and an error as JSON on stderr."),
    ]


@click.group(
    epilog=f"{EXIT_CODES} These options may also follow the command.",
    no_args_is_help=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(__version__, message="%(version)s")
@click.pass_context
def punctual(context: click.Context) -> None:
    """Operate a deployed stack of Punctual.

    Credentials, Region, and endpoint are found as by any AWS SDK (AWS_PROFILE, AWS_DEFAULT_REGION, AWS_ENDPOINT_URL).
    """
    context.ensure_object(Stack)


punctual.params[:0] = _shared_options(is_group=True)
for command in (
    schedule_command,
    cancel_command,
    reschedule_command,
    list_command,
    count_command,
    show_command,
    check_command,
    resend_command,
    redrive_command,
    schema_command,
    web_command,
):
    command.params += _shared_options(is_group=False)
    command.epilog = "--stack, --region, --profile, and --json may stand here, too."
    punctual.add_command(command)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command (by default with the process's arguments) and exit."""
    given = sys.argv[1:] if arguments is None else list(arguments)

    def fail(code: int, sentence: str) -> NoReturn:
        text = " ".join(sentence.split())
        click.echo(json.dumps({"error": text}) if "--json" in given else f"punctual: {text}", err=True)
        sys.exit(code)

    try:
        with exit_on_signals():
            # Not click's standalone mode: it answers wrong usage with three lines.
            code = punctual.main(given, prog_name="punctual", standalone_mode=False)
    except click.UsageError as error:
        command = error.ctx.command_path if error.ctx else "punctual"
        fail(2, f"{error.format_message().rstrip('.')} (see {command} --help)")
    except click.ClickException as error:
        fail(1, error.format_message())
    except click.Abort:  # Ctrl-C
        sys.exit(130)
    except BrokenPipeError:  # The reader, such as `head`, has enough.
        give_up_stdout()
        sys.exit(1)
    except InvalidEvent as error:
        fail(2, str(error))
    except (NotConfigured, NotPunctual, ClientError, BotoCoreError) as error:
        fail(1, sentence_of(error))
    except OSError as error:  # Such as a full disk behind stdout.
        give_up_stdout()
        fail(1, str(error))
    sys.exit(code or 0)
