"""The page in a real browser against the deployed stack."""

import json
import os
import shutil
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta

import pytest

from tools.local import ROOT

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), "")
# Where none is installed, npm has one for Linux on x86_64.
IS_INSTALLED = shutil.which("node") and (ROOT / "node_modules/puppeteer-core").exists()
HAS_BROWSER = IS_INSTALLED and (CHROMIUM or (sys.platform == "linux" and os.uname().machine == "x86_64"))
PICTURE = os.environ.get("PUNCTUAL_WEB_PICTURE", "")  # `make picture` sets it.
SCRIPT = "<script>document.title = 'owned'</script>"


@pytest.mark.skipif(
    not HAS_BROWSER, reason="The page needs a browser: install Node.js and Chromium, and run `make setup`"
)
def test_the_page_shows_what_happened_and_cancels_and_reschedules(stack):
    sns, target = stack.client("sns"), stack.client("sns").create_topic(Name="page")["TopicArn"]

    def publish(id: str, delay: timedelta, **fields: str) -> None:
        event = {"id": id, "target": target, "user": "team@example.com", "payload": "pay by Friday", **fields}
        message = json.dumps(event | {"date": (datetime.now(UTC) + delay).isoformat()})
        sns.publish(TopicArn=stack.outputs["InputTopicArn"], Message=message)

    for number in range(24):
        publish(f"order-{4700 + number}-reminder", timedelta(hours=1, minutes=number * number))
        publish(f"order-{4600 + number}-reminder", timedelta(seconds=8, milliseconds=250 * number))
    publish("script-event", timedelta(minutes=30), payload=SCRIPT)
    publish("to-cancel", timedelta(hours=2))
    publish("to-move", timedelta(hours=3))
    publish("to-nowhere", timedelta(seconds=1), target=f"{target}-missing")
    for _ in range(60):  # Until all are parked.
        found = stack.client("dynamodb").scan(TableName=stack.outputs["ParkedTableName"])["Items"]
        if sum(item["lane"]["S"].startswith("lane") for item in found) >= 27:
            break
        time.sleep(1)
    time.sleep(20)  # Until the others are delivered, or reported.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")} | stack.environment
    command = [sys.executable, "-m", "punctual", "--stack", stack.stack_name, "web", "--no-browser"]
    with subprocess.Popen(command, env=environment, cwd=ROOT, stdout=subprocess.PIPE, text=True) as page:
        browser = ["node", str(ROOT / "tests/stack/web.mjs"), page.stdout.readline().strip(), PICTURE]
        chromium = os.environ | {"CHROMIUM": CHROMIUM}
        try:
            done = subprocess.run(browser, env=chromium, capture_output=True, text=True, timeout=240)
        finally:
            page.terminate()
    assert done.returncode == 0, done.stderr
    saw = json.loads(done.stdout)
    assert json.loads(saw["payload"])["payload"] == SCRIPT and saw["title"] == "Punctual: punctual"
    assert (saw["violations"], saw["problems"], saw["widths"]) == ([], [], [True] * 2)
    assert saw["canceled"].startswith("Cancel to-cancel? to-cancel: canceled; it was parked")
    assert saw["moved"].startswith(
        "Reschedule to-move? It is then due at 2030-01-01 10:00:05 UTC. to-move is published"
    )
