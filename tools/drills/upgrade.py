"""An upgrade and a rollback: another commit deployed, this one over it, and the other one again, while events flow."""

import itertools
import shutil
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

from tools.drills.scenes import Event, Scene
from tools.local import ROOT, LocalStackError

# The release before this one: a tag, or a commit that `make drill COMMIT=...` names. Without either, this commit.
commit: str | None = None
# What each version parks is due after both deployments, and what flows is due soon or parked for a moment.
EVENTS, DUE_SECONDS = 60, 150
FLOW_SECONDS, FLOW_DUE_SECONDS = 1, (3, 7, 12, 25)
# This commit runs with another interval than the earlier one, so that a parameter changes, too.
INTERVALS = {"earlier": "5", "this": "10"}


def upgrade_and_back(scene: Scene) -> None:
    """An upgrade from another commit, and back, while events flow; each withdraws what the other has parked"""
    scene.counts_starts = False  # A deployment takes the proxy away.
    sources = {"earlier": _checked_out(scene.stack.folder / "source"), "this": ROOT}
    for version, source in sources.items():
        scene.stack.build(source, version)
    _deploy(scene, "earlier")
    parked = _park(scene, "first")
    is_over = threading.Event()
    with ThreadPoolExecutor(1) as thread:
        flow = thread.submit(_publish_until, is_over, scene)
        try:
            _deploy(scene, "this")
            _withdraw(scene, parked)
            parked = _park(scene, "second")
            _deploy(scene, "earlier")
            _withdraw(scene, parked)
            _park(scene, "third")
        finally:
            is_over.set()
    flow.result()
    scene.settle()


def _checked_out(folder: Path) -> Path:
    """The files of the earlier commit."""
    git, archive = ["git", "-C", str(ROOT)], folder.with_suffix(".tar")
    tag = subprocess.run([*git, "describe", "--tags", "--abbrev=0"], capture_output=True, text=True).stdout.strip()
    name = commit or tag or "HEAD"
    archived = subprocess.run([*git, "archive", f"--output={archive}", name], capture_output=True, text=True)
    if archived.returncode:
        raise LocalStackError(f"git has no commit {name}: {archived.stderr.strip()}")
    shutil.unpack_archive(archive, folder, filter="data")
    return folder


def _deploy(scene: Scene, version: str) -> None:
    """As docs/operating.md says: after a change of the interval, a Sweep is started."""
    scene.stack.deploy({"SweepIntervalSeconds": INTERVALS[version]}, build=version)
    scene.stack.start_sweep()
    scene.notes.append(f"deployed: {version}")


def _park(scene: Scene, phase: str) -> list[Event]:
    """Publish named events, and return those that the next version is to cancel or replace."""
    due = datetime.now(UTC) + timedelta(seconds=DUE_SECONDS)
    ids = [f"{scene.name}-{phase}-{number:03}" for number in range(EVENTS)]
    events = [scene.event(id, due + timedelta(milliseconds=250 * number)) | {"id": id} for number, id in enumerate(ids)]
    scene.wait_for_ingest(scene.publish(events))
    return events[::2]


def _publish_until(is_over: threading.Event, scene: Scene) -> None:
    """Publish unnamed events again and again: some are due soon, some are parked for a moment."""
    for number in itertools.count():
        if is_over.wait(FLOW_SECONDS):
            return
        now, name = datetime.now(UTC), f"{scene.name}-{number}-in"
        scene.publish([scene.event(f"{name}-{after}", now + timedelta(seconds=after)) for after in FLOW_DUE_SECONDS])


def _withdraw(scene: Scene, events: list[Event]) -> None:
    """Cancel the first half, and replace the second: by an event of the same time, or by one that is due soon."""
    middle = len(events) // 2
    soon = {"date": (datetime.now(UTC) + timedelta(seconds=5)).isoformat()}
    replaced = [event | soon if number % 2 else event for number, event in enumerate(events[middle:])]
    scene.withdraw(events[:middle], replaced)
