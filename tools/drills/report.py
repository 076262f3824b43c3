"""The results of drills: on the screen, and in docs/reliability.md."""

import os
import platform
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from tools.documents import markdown_table, replace_marked
from tools.drills.ledger import Account

DOCUMENT = Path(__file__).resolve().parents[2] / "docs/reliability.md"
COLUMNS = (
    "drill",
    "events",
    "delivered",
    "repeated",
    "reported",
    "canceled",
    "interrupted",
    "missing",
    "longest lateness",
)
MOST_LISTED = 10  # payloads of missing events


@dataclass(frozen=True)
class Result:
    """What one drill found.

    `hits` is how often its faults happened: None if the proxy injected none, 0 if one of them never happened.
    `started_again` is how many of the repeated events were started more than once. `open` are the payloads of the
    missing events.
    """

    name: str
    title: str
    account: Account
    seconds: float
    hits: int | None = None
    started_again: int = 0
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    report_places: Counter[str] = field(default_factory=Counter)
    open: list[str] = field(default_factory=list)

    @property
    def is_clean(self) -> bool:
        """Whether the fault happened and every promise was kept."""
        return self.account.is_clean and self.hits != 0 and not self.problems


def lines_of(result: Result) -> list[str]:
    """One result for the screen."""
    account = result.account
    counts = (
        f"{account.delivered} delivered ({account.repeated} repeated)",
        f"{account.reported} reported",
        f"{account.canceled} canceled",
        f"{account.interrupted} interrupted",
        f"{account.missing} missing",
        f"at most {account.latest_seconds:.1f} s late",
    )
    lines = [f"{result.name:34} {account.events:5} events: {', '.join(counts)}  [{result.seconds:.0f} s]"]
    problems = {
        "early": account.early,
        "later than the drill allows": account.late,
        "delivered although canceled or replaced in time": account.unwanted,
        "repeated without an explanation": account.unexplained,
    }
    lines += [f"    PROBLEM: {count} {label}" for label, count in problems.items() if count]
    lines += [f"    PROBLEM: {problem}" for problem in result.problems]
    if result.open:
        more = f" and {len(result.open) - MOST_LISTED} more" if len(result.open) > MOST_LISTED else ""
        lines.append(f"    PROBLEM: missing: {', '.join(result.open[:MOST_LISTED])}{more}")
    if result.hits == 0:
        lines.append("    PROBLEM: a fault never happened")
    elif result.hits:
        lines.append(f"    the fault happened {result.hits} times")
    if account.repeated:
        lines.append(f"    {_starts([result])}")
    if result.report_places:
        places = (f"{place}: {count}" for place, count in result.report_places.items())
        lines.append(f"    reports by place: {', '.join(places)}")
    lines += [f"    {note}" for note in result.notes]
    return lines


def table(results: Sequence[Result]) -> str:
    """All results, in Markdown."""
    return markdown_table(COLUMNS, [_row(result.title, result.account) for result in results])


def _row(title: str, account: Account) -> list[object]:
    return [
        title,
        account.events,
        account.delivered,
        account.repeated,
        account.reported,
        account.canceled,
        account.interrupted,
        account.missing,
        f"{account.latest_seconds:.1f} s" if account.delivered else "-",
    ]


def summary(results: Sequence[Result]) -> str:
    """All results in a sentence or two."""
    accounts = [result.account for result in results]
    events = sum(account.events for account in accounts)
    interrupted = sum(account.interrupted for account in accounts)
    missing = sum(account.missing for account in accounts)
    early = sum(account.early for account in accounts)
    text = f"{events - interrupted - missing:,} of {events:,} events accounted for"
    if interrupted:
        text += f"; {interrupted:,} were inside the emulator when it was stopped"
    return f"{text}. {missing:,} missing, {early:,} early."


def _starts(results: Sequence[Result]) -> str:
    """Whether repeats come from repeated starts."""
    repeated = sum(result.account.repeated for result in results)
    started_again = sum(result.started_again for result in results)
    return f"started more than once: {started_again:,} of the {repeated:,} repeated events"


def write(results: Sequence[Result], command: str, seconds: float, document: Path = DOCUMENT) -> None:
    """Put all results into the document, between its markers."""
    machine = f"{os.cpu_count()} cores ({platform.machine()}), {platform.system()}, Python {platform.python_version()}"
    how = f"`{command}`, {datetime.now(UTC):%Y-%m-%d}, {machine}, {seconds / 60:.0f} minutes."
    notes = [f"{result.title}: {note}" for result in results for note in result.notes]
    items = "\n".join(f"- {note}." for note in (f"All drills, {_starts(results)}", *notes))
    replace_marked(document, "drills", "\n\n".join((how, summary(results), table(results), items)))
