"""The benchmark: how late events are, how fast the Sweeper is, how large the functions are.

    python -m tools.bench                               everything, on this machine (under five minutes)
    python -m tools.bench --write                       the same, and renew docs/performance.md and its pictures
    python -m tools.bench lateness --rate 10 --parked 0
    python -m tools.bench lateness --stack punctual     of the stack on AWS, where the environment says
    python -m tools.bench sweep --profile               the Sweeper alone, and where its time goes
    python -m tools.bench size

Results go to .local/bench: a JSON file for each part, two pictures. Ends with 1 if an event was early or missing.
"""

import argparse
import io
import json
import os
import platform
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

import boto3
from botocore.config import Config
from rich.box import SIMPLE
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from tools.bench import sweeping
from tools.bench.lateness import PERCENTILES, PUNCTUAL, Load, Observation, figures, measure
from tools.local import ROOT, LocalStack, LocalStackError

OUT = ROOT / ".local/bench"
EMULATORS_PYTHON = ROOT / ".venv/emulator/bin/python"
DOCUMENT = ROOT / "docs/performance.md"
PICTURES = ROOT / "docs/pictures"
OVER_TIME, DISTRIBUTION = "lateness-over-time.png", "lateness-distribution.png"

GOAL_TO_FLOOR = 1.25
GOAL_TIME_TO_START_AND_DELETE = 1.5
GOAL_RATE_TO_START = 0.9
GOAL_MEMORY_MB = 256
GOAL_ZIP_MB = 5
GOAL_IMPORT_SECONDS = 0.5
IMPORTS = 5

console = Console()


class AwsStack:
    """A stack deployed on AWS, in the account and Region that the environment says."""

    def __init__(self, stack_name: str) -> None:
        self.stack_name = stack_name
        self._session = boto3.Session()
        self.where = f"AWS {self._session.region_name}, stack {stack_name}"

    def client(self, service: str, **config: Any) -> Any:
        return self._session.client(service, config=Config(**config))


@contextmanager
def local_stack() -> Iterator[LocalStack]:
    """Punctual, deployed to an emulator on this machine. Its clock is wound at once: a minute's wait tells nothing."""
    with LocalStack() as stack:
        with console.status("Building and deploying to the emulator"):
            stack.build()
            outputs = stack.deploy()
        stack.client("stepfunctions").start_execution(stateMachineArn=outputs["SweepArn"])
        yield stack


def resource_of(stack: Any, logical_id: str) -> str:
    """The physical id of one of the stack's resources."""
    answer = stack.client("cloudformation").describe_stack_resource(
        StackName=stack.stack_name, LogicalResourceId=logical_id
    )
    return answer["StackResourceDetail"]["PhysicalResourceId"]


def configuration_of(stack: Any, function: str) -> dict[str, Any]:
    return stack.client("lambda").get_function_configuration(FunctionName=resource_of(stack, function))


# --- The parts --------------------------------------------------------------------------------------------------------


def run_lateness(stack: Any, options: argparse.Namespace) -> dict[str, Any]:
    is_local = isinstance(stack, LocalStack)
    load = Load(
        rate=options.rate,
        duration=options.duration or -(-options.count // options.rate),
        fractions=options.fractions,
        parked=options.parked,
        lead=options.lead,
        horizon=int(configuration_of(stack, "Ingest")["Environment"]["Variables"]["HORIZON_SECONDS"]),
    )
    arns = {
        "InputTopic": resource_of(stack, "InputTopic"),
        "Deliver": resource_of(stack, "Deliver"),
        "Hold": configuration_of(stack, "Hold")["FunctionArn"],
    }
    columns = TextColumn("{task.description:8}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    with Progress(*columns, console=console) as progress:
        sent_bar, arrived_bar = progress.add_task("sent", total=None), progress.add_task("arrived", total=None)

        def show(sent: int, arrived: int, expected: int) -> None:
            progress.update(sent_bar, completed=sent, total=expected)
            progress.update(arrived_bar, completed=arrived, total=expected)

        observations, clock = measure(stack, arns, load, floor_waits_fractions=is_local, progress=show)
    result = {
        "where": f"the local emulator (MiniStack {emulator_version()})" if is_local else stack.where,
        "machine": machine(),
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "load": vars(load),
        "clock_offset_ms": round(1000 * clock.offset.total_seconds(), 2),
        "clock_error_ms": round(1000 * clock.error.total_seconds(), 2),
        "figures": figures(observations),
        "events": [as_record(observation) for observation in observations],
    }
    save("lateness", result, options.out)
    from tools.bench import pictures  # here, because matplotlib takes its time, in each process that sweeps too

    pictures.draw(observations, result["where"], options.out / OVER_TIME, options.out / DISTRIBUTION)
    print_table("Events", counts_table(result))
    print_table("At the consumer", lateness_table(result, "received_ms"))
    print_table("In the consumer's queue", lateness_table(result, "in_queue_ms"))
    console.print(
        f"The queue's clock is {result['clock_offset_ms']} ms ahead of this machine's, "
        f"give or take {result['clock_error_ms']} ms; lateness at the consumer is corrected by that."
    )
    return result


def as_record(observation: Observation) -> dict[str, Any]:
    probe = observation.probe
    return {
        "path": probe.path,
        "number": probe.number,
        "far": probe.far,
        "due": probe.due.isoformat(),
        "sent_at": probe.send_at.isoformat(timespec="milliseconds"),
        "warm": probe.warm,
        "in_queue_ms": observation.in_queue_ms,
        "received_ms": observation.received_ms,
        "times": observation.times,
    }


def run_sweep(stack: LocalStack, options: argparse.Namespace) -> dict[str, Any]:
    names = resource_of(stack, "Sweeper"), stack.outputs["ParkedTableName"], stack.outputs["DeliverRoleArn"]
    profile = options.out / "sweeper-profile.txt" if options.profile else None
    options.out.mkdir(parents=True, exist_ok=True)
    with sweeping.bench(stack, *names, latency=options.latency / 1000) as bench, console.status("Sweeping") as status:
        race = bench.race(options.events, options.repetitions, profile, lambda step: status.update(f"Sweeping: {step}"))
        stresses = []
        for sweepers in (1, options.sweepers):
            status.update(f"Sweeping: {options.crowd:,} events with {sweepers} at once")
            stresses.append(bench.stress(options.crowd, sweepers))
    result = {"machine": machine(), "latency_ms": options.latency, "race": race, "stress": stresses}
    save("sweep", result, options.out)
    print_table(f"Starting {options.events:,} parked events", race_table(result))
    print_table(f"{options.crowd:,} events due within {sweeping.WITHIN_SECONDS} s", stress_table(result))
    if profile:
        console.print(f"Where the time goes: {profile}")
    return result


def run_size(build: Path, options: argparse.Namespace) -> dict[str, Any]:
    functions = sorted(path.name for path in build.iterdir() if path.is_dir())
    result = {
        "machine": machine(),
        "zip_mb": {name: round(zipped_bytes(build / name) / 1e6, 2) for name in functions},
        "import_cpu_seconds_anew": round(median(import_seconds(build / "Ingest") for _ in range(IMPORTS)), 3),
    }
    subprocess.run([EMULATORS_PYTHON, "-m", "compileall", "-q", build / "Ingest"], check=True)
    result["import_cpu_seconds"] = round(median(import_seconds(build / "Ingest") for _ in range(IMPORTS)), 3)
    save("size", result, options.out)
    print_table("Size", size_table(result))
    return result


def zipped_bytes(folder: Path) -> int:
    """The size of the function's package, as sam makes it."""
    with io.BytesIO() as memory:
        with zipfile.ZipFile(memory, "w", zipfile.ZIP_DEFLATED) as archive:
            for path in sorted(folder.rglob("*")):
                archive.write(path, path.relative_to(folder))
        return memory.tell()


def import_seconds(folder: Path) -> float:
    """CPU time of importing Ingest in a fresh process, from the built package and with the emulator's botocore (that of
    Lambda's runtime there). What is not compiled is compiled anew, as in Lambda, where it can't be kept."""
    measured = "import time; began = time.process_time(); import scheduler.ingest; print(time.process_time() - began)"
    names = re.findall(r"env\[\"(\w+)\"\]", (folder / "scheduler/ingest.py").read_text())
    environment = dict.fromkeys(names, "20") | {  # a number of seconds, and as good a name as any
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(folder),
        "PYTHONDONTWRITEBYTECODE": "1",
        "AWS_DEFAULT_REGION": "eu-central-1",
        "POWERTOOLS_SERVICE_NAME": "bench",
    }
    return float(
        subprocess.run(
            [EMULATORS_PYTHON, "-c", measured], env=environment, capture_output=True, check=True, text=True
        ).stdout
    )


def emulator_version() -> str:
    ask = "from importlib.metadata import version; print(version('ministack'))"
    return subprocess.run([EMULATORS_PYTHON, "-c", ask], capture_output=True, check=True, text=True).stdout.strip()


def machine() -> str:
    return (
        f"{os.cpu_count()} processors ({platform.machine()}), {platform.system()}, Python {platform.python_version()}"
    )


# --- Tables, for the terminal and for the document --------------------------------------------------------------------
# A table is its rows of text; the first is the header.

Rows = list[list[str]]


def counts_table(result: dict[str, Any]) -> Rows:
    rows = [["events", "sent", "early", "missing", "repeated"]]
    return rows + [[kind(row), *(str(row[name]) for name in rows[0][1:])] for row in result["figures"]]


def lateness_table(result: dict[str, Any], measure: str) -> Rows:
    rows = [["lateness, ms", "of", *PERCENTILES, "p50 : floor", "p99 : floor"]]
    for row in result["figures"]:
        ratios = row.get(f"{measure}_to_floor", {})
        rows.append(
            [kind(row), str(row["counted"])]
            + [f"{row[measure][name]:.0f}" if row[measure] else "" for name in PERCENTILES]
            + [f"{ratio:.2f}" if (ratio := ratios.get(name)) else "" for name in ("p50", "p99")]
        )
    return rows


def kind(row: dict[str, Any]) -> str:
    return f"{row['path']}, {row['date']}" if row["distance"] == "all" else f"- {row['distance']}, {row['date']}"


def race_table(result: dict[str, Any]) -> Rows:
    race = result["race"]
    rows = [["what", "ms an event", "starts a second", "each repetition, s"]]
    for arm, seconds in race["seconds"].items():
        rows.append(
            [
                arm,
                f"{race['ms_per_event'][arm]:.2f}",
                str(race["starts_per_second"][arm]),
                ", ".join(f"{s:.2f}" for s in seconds),
            ]
        )
    return rows


def stress_table(result: dict[str, Any]) -> Rows:
    rows = [
        [
            "sweepers",
            "events",
            "first sweep to last start, s",
            "starts a second",
            "sweeps",
            "memory at most, MB",
            "before the sweep, MB",
        ]
    ]
    for stress in result["stress"]:
        names = ("sweepers", "events", "seconds", "starts_per_second", "sweeps", "memory_peak_mb", "memory_before_mb")
        rows.append([f"{stress[name]:,}" for name in names])
    return rows


def size_table(result: dict[str, Any]) -> Rows:
    rows = [["what", "measured", "limit"]]
    rows += [[f"package of {name}", f"{size:.2f} MB", f"{GOAL_ZIP_MB} MB"] for name, size in result["zip_mb"].items()]
    rows.append(["importing Ingest", f"{result['import_cpu_seconds']:.2f} s of CPU", f"{GOAL_IMPORT_SECONDS} s"])
    return [*rows, ["- and compiling it anew", f"{result['import_cpu_seconds_anew']:.2f} s of CPU", ""]]


def goals_table(lateness: dict[str, Any], sweep: dict[str, Any], size: dict[str, Any]) -> Rows:
    """What was aimed at, and whether it was met."""
    rows = [["goal", "measured", "limit", "met"]]

    def add(goal: str, measured: float, limit: float, met: bool, unit: str = "") -> None:
        rows.append([goal, f"{measured:.2f}{unit}", f"{limit}{unit}", "yes" if met else "no"])

    for row in lateness["figures"]:
        if row["path"] == PUNCTUAL and row["distance"] == "all" and "received_ms_to_floor" in row:
            for name in ("p50", "p99"):
                ratio = row["received_ms_to_floor"][name]
                add(
                    f"lateness, {row['date']}, {name}, to the floor",
                    ratio,
                    GOAL_TO_FLOOR,
                    ratio <= GOAL_TO_FLOOR,
                )
    time, rate = sweep["race"]["time_to_start_and_delete"], sweep["race"]["rate_to_start"]
    add(
        "Sweeper's time, to start and delete",
        time,
        GOAL_TIME_TO_START_AND_DELETE,
        time <= GOAL_TIME_TO_START_AND_DELETE,
    )
    add("Sweeper's rate, to start alone (at least)", rate, GOAL_RATE_TO_START, rate >= GOAL_RATE_TO_START)
    memory = max(stress["memory_peak_mb"] for stress in sweep["stress"])
    add("Sweeper's memory", memory, GOAL_MEMORY_MB, memory < GOAL_MEMORY_MB, " MB")
    largest, seconds = max(size["zip_mb"].values()), size["import_cpu_seconds"]
    add("largest package", largest, GOAL_ZIP_MB, largest <= GOAL_ZIP_MB, " MB")
    add("importing Ingest", seconds, GOAL_IMPORT_SECONDS, seconds <= GOAL_IMPORT_SECONDS, " s")
    return rows


def print_table(title: str, rows: Rows) -> None:
    table = Table(title=title, title_justify="left", box=SIMPLE, padding=(0, 1, 0, 0))
    for number, heading in enumerate(rows[0]):
        table.add_column(heading, justify="left" if number == 0 else "right", no_wrap=number == 0)
    for row in rows[1:]:
        table.add_row(*row)
    console.print(table)


def as_markdown(rows: Rows) -> str:
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([lines[0], "| " + " | ".join("---" for _ in rows[0]) + " |", *lines[1:]])


def write_document(lateness: dict[str, Any], sweep: dict[str, Any], size: dict[str, Any]) -> None:
    """Put the tables between their markers in docs/performance.md, and the pictures beside it."""
    results = {"lateness": lateness, "sweep": sweep, "size": size}
    parts = {name: make(results) for name, make in TABLES.items()}
    DOCUMENT.write_text(fill(DOCUMENT.read_text(), parts))
    PICTURES.mkdir(exist_ok=True)
    for name in (OVER_TIME, DISTRIBUTION):
        (PICTURES / name).write_bytes((OUT / name).read_bytes())


def conditions(result: dict[str, Any]) -> str:
    return f"Measured on {result['measured_at'][:10]} on {result['where']}; {result['machine']}."


# What stands between the markers of docs/performance.md.
TABLES: dict[str, Callable[[dict[str, dict[str, Any]]], str]] = {
    "conditions": lambda results: conditions(results["lateness"]),
    "goals": lambda results: as_markdown(goals_table(**results)),
    "counts": lambda results: as_markdown(counts_table(results["lateness"])),
    "received": lambda results: as_markdown(lateness_table(results["lateness"], "received_ms")),
    "in-queue": lambda results: as_markdown(lateness_table(results["lateness"], "in_queue_ms")),
    "race": lambda results: as_markdown(race_table(results["sweep"])),
    "stress": lambda results: as_markdown(stress_table(results["sweep"])),
    "size": lambda results: as_markdown(size_table(results["size"])),
}


def fill(text: str, parts: dict[str, str]) -> str:
    """Replace what stands between `<!-- name -->` and `<!-- end -->`. Raises ValueError for a name without a place."""
    for name, part in parts.items():
        text, places = re.subn(
            rf"(<!-- {name} -->\n).*?(<!-- end -->)",
            lambda match, part=part: f"{match[1]}{part}\n{match[2]}",
            text,
            flags=re.S,
        )
        if places != 1:
            raise ValueError(f"{places} places for {name}")
    return text


def save(name: str, result: dict[str, Any], out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    (out / f"{name}.json").write_text(json.dumps(result, indent=1) + "\n")


# --- The command ------------------------------------------------------------------------------------------------------


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Benchmark of Punctual", formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument(
        "--write", action="store_true", help="renew docs/performance.md and its pictures (everything only)"
    )
    commands = parser.add_subparsers(dest="command")
    lateness = commands.add_parser("lateness", help="how late events are", formatter_class=parser.formatter_class)
    sweep = commands.add_parser("sweep", help="how fast the Sweeper is", formatter_class=parser.formatter_class)
    commands.add_parser("size", help="how large the functions are")

    lateness.add_argument("--stack", metavar="NAME", help="measure this stack on AWS instead of one on this machine")
    lateness.add_argument("--rate", type=positive, default=4, help="events due in each second, on each path")
    amount = lateness.add_mutually_exclusive_group()
    amount.add_argument("--duration", type=positive, help="for how many seconds events are due")
    amount.add_argument("--count", type=positive, default=240, help="events on each path, instead of a duration")
    lateness.add_argument("--lead", type=float, default=6, help="seconds before it is due that a near event is sent")
    lateness.add_argument("--fractions", type=share, default=0.5, help="share of dates with a fraction of a second")
    lateness.add_argument(
        "--parked", type=share, default=0.5, help="share of events too far away to be started at once"
    )

    sweep.add_argument("--events", type=positive, default=2000, help="parked events in one sweep")
    sweep.add_argument("--repetitions", type=positive, default=3)
    sweep.add_argument("--crowd", type=positive, default=10_000, help="events due within the same ten seconds")
    sweep.add_argument("--sweepers", type=positive, default=3, help="how many sweep the crowd at once, the second time")
    sweep.add_argument("--latency", type=float, default=0, help="ms by which each call is delayed, as by a network")
    sweep.add_argument("--profile", action="store_true", help="say where the time goes, by pyinstrument")
    for command in (lateness, sweep, commands.choices["size"]):
        command.add_argument("--out", type=Path, default=OUT, help="folder for the results")

    options = parser.parse_args(arguments)
    if options.command is None:
        for command in (lateness, sweep):
            command.parse_args([], namespace=options)
    elif options.write:
        parser.error("--write is for everything: leave out the command")
    return options


def positive(text: str) -> int:
    if (number := int(text)) < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return number


def share(text: str) -> float:
    if not 0 <= (number := float(text)) <= 1:
        raise argparse.ArgumentTypeError("must be from 0 to 1")
    return number


def main() -> None:
    options = parse_arguments()
    everything = options.command is None
    results: dict[str, dict[str, Any]] = {}
    with ExitStack() as stacks:
        if options.command == "lateness" and options.stack:
            stack = AwsStack(options.stack)
        else:
            stack = stacks.enter_context(local_stack())
        if everything or options.command == "lateness":
            results["lateness"] = run_lateness(stack, options)
        if everything or options.command == "sweep":
            results["sweep"] = run_sweep(stack, options)
        if everything or options.command == "size":
            results["size"] = run_size(stack.built, options)
    if everything:
        print_table("Goals", goals_table(**results))
    console.print(f"Results: {options.out}")
    if options.write:
        write_document(**results)
    rows = results.get("lateness", {}).get("figures", [])
    sys.exit(any(row["early"] or row["missing"] for row in rows))


if __name__ == "__main__":
    try:
        main()
    except LocalStackError as error:
        sys.exit(f"\n{error}")
