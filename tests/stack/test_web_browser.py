"""The page in a real browser against the deployed stack."""

import json
import os
import shutil
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta

import pytest

from tools.local import ROOT, LocalStack

INSTALLED = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), "")
PICTURE = os.environ.get("PUNCTUAL_WEB_PICTURE", "")  # `make picture` sets it.
SCRIPT = "<script>document.title = 'owned'</script>"


def publish(stack: LocalStack, id: str, delay: timedelta, target: str = "page", **fields: str) -> None:
    topic = stack.outputs["InputTopicArn"].rpartition(":")[0] + f":{target}"
    event = {"id": id, "target": topic, "user": "team@example.com", "payload": "pay by Friday", **fields}
    message = event | {"date": (datetime.now(UTC) + delay).isoformat()}
    stack.client("sns").publish(TopicArn=stack.outputs["InputTopicArn"], Message=json.dumps(message))


@pytest.mark.skipif(not shutil.which("node"), reason="The page needs a browser: install Node.js, or run `make setup`")
@pytest.mark.skipif(
    not (ROOT / "node_modules/puppeteer-core").exists(), reason="The page needs a browser: run `make setup`"
)
@pytest.mark.skipif(
    not INSTALLED and (sys.platform != "linux" or os.uname().machine != "x86_64"),
    reason="The page needs a browser: install Chromium",
)
def test_the_page_shows_what_happened_and_cancels_and_reschedules(stack):
    stack.client("sns").create_topic(Name="page")
    for number in range(24):
        publish(stack, f"order-{4700 + number}-reminder", timedelta(hours=1, minutes=number * number))
        publish(stack, f"order-{4600 + number}-reminder", timedelta(seconds=8, milliseconds=250 * number))
    publish(stack, "script-event", timedelta(minutes=30), payload=SCRIPT)
    publish(stack, "to-cancel", timedelta(hours=2))
    publish(stack, "to-move", timedelta(hours=3))
    publish(stack, "to-nowhere", timedelta(seconds=1), target="missing")
    time.sleep(25)  # Until all are parked, or delivered, or reported.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")} | stack.environment
    command = [sys.executable, "-m", "punctual", "--stack", stack.stack_name, "web", "--no-browser"]
    page = subprocess.Popen(command, env=environment, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        address = page.stdout.readline().strip()
        browser = ["node", str(ROOT / "tests/stack/web.mjs"), address, PICTURE]
        done = subprocess.run(
            browser, env=os.environ | {"CHROMIUM": INSTALLED}, capture_output=True, text=True, timeout=240
        )
        assert done.returncode == 0, done.stderr
    finally:
        page.terminate()
        page.wait(20)
        page.stdout.close()
    saw = json.loads(done.stdout)
    assert SCRIPT in json.loads(saw["payload"])["payload"]
    assert [saw["title"], saw["titleAtEnd"]] == ["Punctual: punctual"] * 2
    assert (saw["violations"], saw["problems"], saw["widths"]) == ([], [], [True] * 4)
    assert saw["canceled"].startswith("Cancel to-cancel? to-cancel: canceled; it was parked")
    assert saw["moved"].startswith(
        "Reschedule to-move? It is then due at 2030-01-01 10:00:05 UTC. to-move is published"
    )
