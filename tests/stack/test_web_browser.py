"""The page in a real browser against the deployed stack."""

import json
import os
import shutil
import subprocess
import sys

import pytest

from tests.stack.conftest import event, in_seconds, publish, users_environment
from tools.local import ROOT

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), "")
# Where none is installed, npm has one for Linux on x86_64.
IS_INSTALLED = shutil.which("node") and (ROOT / "node_modules/puppeteer-core").exists()
HAS_BROWSER = IS_INSTALLED and (CHROMIUM or (sys.platform == "linux" and os.uname().machine == "x86_64"))
PICTURE = os.environ.get("PUNCTUAL_WEB_PICTURE", "")  # `make picture` sets it.
SCRIPT = "<script>document.title = 'owned'</script>"


@pytest.mark.skipif(not HAS_BROWSER, reason="It needs a browser: install Node.js and Chromium, and run `make setup`")
def test_the_page_shows_what_happened_and_cancels_and_reschedules(stack):
    stack.start_sweep()  # A new stack's first one would be late, and so would be what the page shows.
    target = stack.client("sns").create_topic(Name="page")["TopicArn"]

    def send(id: str, seconds: float, payload: str = "pay by Friday", target: str = target) -> None:
        publish(stack, event(target, payload, in_seconds(seconds), id=id))

    for number in range(24):
        send(f"order-{4700 + number}-reminder", 3600 + 60 * number * number)
        send(f"order-{4600 + number}-reminder", 8 + number / 4)
    send("script-event", 1800, SCRIPT)
    send("to-cancel", 7200)
    send("to-move", 10800)
    send("to-nowhere", 1, target=f"{target}-missing")
    command = [sys.executable, "-m", "punctual", "--stack", stack.stack_name, "web", "--no-browser"]
    with subprocess.Popen(command, env=users_environment(stack), cwd=ROOT, stdout=subprocess.PIPE, text=True) as page:
        browser = ["node", ROOT / "tests/stack/web.mjs", page.stdout.readline().strip(), CHROMIUM, PICTURE]
        try:
            done = subprocess.run(browser, stdout=subprocess.PIPE, text=True, timeout=240)
        finally:
            page.terminate()
    assert done.returncode == 0, "see what it wrote on stderr"
    saw = json.loads(done.stdout)
    assert json.loads(saw["payload"])["payload"] == SCRIPT and saw["title"] == "Punctual: punctual"
    assert (saw["violations"], saw["problems"], saw["widths"]) == ([], [], [True] * 2)
    assert saw["canceled"].startswith("Cancel to-cancel? to-cancel: canceled; it was parked")
    assert saw["moved"] == "Reschedule to-move? to-move is published again, for 2030-01-01 10:00:05.000 UTC."
