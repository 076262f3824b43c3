"""The command `web`: serves the page on this machine until it is interrupted."""

import secrets
import socket
import threading
import webbrowser

import click

from ..stack import Stack


@click.command("web")
@click.option("--port", type=click.IntRange(0, 65535), default=0, metavar="PORT", help="A free one by default.")
@click.option("--read-only", is_flag=True, help="Without the buttons that change anything.")
@click.option("--no-browser", is_flag=True, help="Only print the address.")
@click.pass_obj
def web_command(stack: Stack, port: int, read_only: bool, no_browser: bool) -> None:
    """Open a page in the browser: whether the stack is punctual, what is pending, how late it was, what failed.

    The page is served on 127.0.0.1 with your credentials until Ctrl-C. Its address opens it once, in one browser. It
    asks of AWS what `list`, `count`, `show`, and its buttons' commands ask, and reads the logs of the last hour or day.
    """
    try:
        import uvicorn

        from .server import application
    except ModuleNotFoundError:
        raise click.ClickException('the page needs more packages: pip install "punctual-scheduler[web]"') from None
    stack.output("ParkedTableName")  # Without the stack there is nothing to show.
    with socket.create_server(("127.0.0.1", port)) as listener:
        host, token = f"127.0.0.1:{listener.getsockname()[1]}", secrets.token_urlsafe(32)
        url = f"http://{host}/?token={token}"
        click.echo(url)
        if not no_browser:
            threading.Timer(0.5, webbrowser.open, [url]).start()
        # Without a log of accesses: the token would be in it.
        config = uvicorn.Config(application(stack, host, token, read_only), log_level="warning", access_log=False)
        uvicorn.Server(config).run(sockets=[listener])
