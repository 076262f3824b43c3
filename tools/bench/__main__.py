"""The benchmark: how late events are, how fast the Sweeper and the command are, and how large the functions are.

    python -m tools.bench                               every part, on this machine (about five minutes)
    python -m tools.bench --write                       the same, and renew docs/performance.md and its pictures
    python -m tools.bench lateness --rate 10 --parked 0
    python -m tools.bench lateness --stack punctual     a stack on AWS, in the account and Region of the environment
    python -m tools.bench sweep --profile               the Sweeper, and where its time goes
    python -m tools.bench size
    python -m tools.bench cli                           the command's list and count, with 100,000 parked events
    python -m tools.bench report --write                the saved results again, without measuring

README.md in this folder says what it leaves behind, and which permissions it needs on AWS. The exit status is 1 if an
event was early or missing, or if the command missed a goal.
"""

import argparse
import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from tools.bench import cli, report, size, sweep_throughput
from tools.bench.figures import figures
from tools.bench.lateness import Load, Observation, measure
from tools.bench.stacks import AwsStack, Stack, function_configuration, local_stack, location, resource_id
from tools.documents import this_machine
from tools.local import ROOT, LocalStack, LocalStackError

OUT = ROOT / ".local/bench"
PARTS = ("lateness", "sweep", "size")  # of docs/performance.md

console = Console()


# --- The parts --------------------------------------------------------------------------------------------------------


def run_lateness(stack: Stack, options: argparse.Namespace) -> dict[str, Any]:
    load = Load(
        rate=options.rate,
        duration=options.duration or -(-options.count // options.rate),
        fractions=options.fractions,
        parked=options.parked,
        lead=options.lead,
        horizon=int(function_configuration(stack, "Ingest")["Environment"]["Variables"]["HORIZON_SECONDS"]),
    )
    arns = {
        "InputTopic": resource_id(stack, "InputTopic"),
        "Deliver": resource_id(stack, "Deliver"),
        "Hold": function_configuration(stack, "Hold")["FunctionArn"],
    }
    columns = TextColumn("{task.description:8}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    with Progress(*columns, console=console) as progress:
        sent_bar, arrived_bar = progress.add_task("sent", total=None), progress.add_task("arrived", total=None)

        def show_progress(sent: int, arrived: int, expected: int) -> None:
            progress.update(sent_bar, completed=sent, total=expected)
            progress.update(arrived_bar, completed=arrived, total=expected)

        is_local = isinstance(stack, LocalStack)
        observations, clock = measure(stack, arns, load, wait_keeps_fractions=is_local, show_progress=show_progress)
    where = location(stack)
    result = conditions() | {
        "where": where,
        "load": vars(load),
        "clock_offset_ms": round(1000 * clock.offset.total_seconds(), 2),
        "clock_error_ms": round(1000 * clock.error.total_seconds(), 2),
        "figures": figures(observations),
        "events": [as_record(observation) for observation in observations],
    }
    from tools.bench import pictures  # here, because matplotlib would slow down each process that sweeps, too

    options.out.mkdir(parents=True, exist_ok=True)
    pictures.draw(observations, where, options.out)
    (options.out / "lateness.md").write_text(report.lateness_report(result), encoding="utf-8")
    return result


def as_record(observation: Observation) -> dict[str, Any]:
    event = observation.event
    return {
        "path": event.path,
        "number": event.number,
        "is_parked": event.is_parked,
        "due": event.due.isoformat(),
        "send_at": event.send_at.isoformat(timespec="milliseconds"),
        "is_counted": event.is_counted,
        "in_queue_ms": observation.in_queue_ms,
        "received_ms": observation.received_ms,
        "copies": observation.copies,
    }


def run_sweep(stack: LocalStack, options: argparse.Namespace) -> dict[str, Any]:
    options.out.mkdir(parents=True, exist_ok=True)
    profile = options.out / "sweeper-profile.txt" if options.profile else None
    with (
        sweep_throughput.sweep_benchmark(stack, latency_seconds=options.latency / 1000) as benchmark,
        console.status("Sweeping") as status,
    ):

        def show_step(step: str) -> None:
            status.update(f"Sweeping: {step}")

        comparison = benchmark.compare(options.events, options.repetitions, profile, show_step)
        bursts = []
        for sweepers in (1, options.sweepers):
            show_step(f"burst of {options.burst:,} events, sweepers: {sweepers}")
            bursts.append(benchmark.burst(options.burst, sweepers))
    if profile:
        console.print(f"Profile of the Sweeper: {profile}")
    return conditions() | {"latency_ms": options.latency, "comparison": comparison, "bursts": bursts}


def run_size(stack: LocalStack) -> dict[str, Any]:
    environment = function_configuration(stack, "Ingest")["Environment"]["Variables"]
    return conditions() | size.measure(stack.built, environment)


def run_cli(stack: LocalStack, options: argparse.Namespace) -> dict[str, Any]:
    with console.status(f"Running the command with {options.parked_events:,} parked events"):
        commands = [vars(measured) for measured in cli.measure(stack, options.parked_events)]
    return conditions() | {"events": options.parked_events, "commands": commands}


def conditions() -> dict[str, Any]:
    return {"machine": this_machine(), "measured_at": datetime.now(UTC).isoformat(timespec="seconds")}


# --- The results ------------------------------------------------------------------------------------------------------


def save(part: str, result: dict[str, Any], out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    (out / f"{part}.json").write_text(json.dumps(result, indent=1) + "\n")


def load_results(out: Path) -> dict[str, dict[str, Any]]:
    """The saved results of the parts that were measured, by name."""
    paths = {part: out / f"{part}.json" for part in PARTS}
    return {part: json.loads(path.read_text()) for part, path in paths.items() if path.exists()}


def show(results: dict[str, dict[str, Any]]) -> None:
    if "lateness" in results:
        report.print_lateness(console, results["lateness"])
    if "sweep" in results:
        report.print_sweep(console, results["sweep"], sweep_throughput.DUE_WITHIN_SECONDS)
    if "size" in results:
        report.print_size(console, results["size"])
    if "cli" in results:
        console.print(cli.table(results["cli"]))
    if results.keys() == set(PARTS):
        report.print_goals(console, **results)


def write(results: dict[str, dict[str, Any]], options: argparse.Namespace) -> None:
    if missing := [part for part in PARTS if part not in results]:
        sys.exit(f"The document needs every part. {options.out} has no results of: {', '.join(missing)}")
    report.write_document(options.docs, sorted(options.out.glob("lateness-*.png")), **results)
    console.print(f"Renewed {options.docs / report.DOCUMENT}")


# --- The command ------------------------------------------------------------------------------------------------------


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    formatter = argparse.ArgumentDefaultsHelpFormatter
    files = argparse.ArgumentParser(add_help=False)
    files.add_argument("--out", type=Path, default=OUT, help="folder of the results")
    document = argparse.ArgumentParser(add_help=False)
    document.add_argument("--write", action="store_true", help="renew performance.md and its pictures")
    document.add_argument("--docs", type=Path, default=report.DOCS, help="folder of performance.md")

    load = argparse.ArgumentParser(add_help=False)
    load.add_argument("--rate", type=positive, default=4, help="events due in each second, on each path")
    amount = load.add_mutually_exclusive_group()
    amount.add_argument("--duration", type=positive, help="seconds in which events are due")
    amount.add_argument("--count", type=positive, default=240, help="events on each path, instead of a duration")
    load.add_argument("--lead", type=float, default=6, help="seconds before its due time that an event is sent")
    load.add_argument("--fractions", type=share, default=0.5, help="share of dates with a fraction of a second")
    load.add_argument("--parked", type=share, default=0.5, help="share of events that are parked first")

    sweep = argparse.ArgumentParser(add_help=False)
    sweep.add_argument("--events", type=positive, default=2000, help="parked events in one sweep")
    sweep.add_argument("--repetitions", type=positive, default=3, help="measurements of each variant")
    sweep.add_argument("--burst", type=positive, default=10_000, help="events in the burst, all within the horizon")
    sweep.add_argument("--sweepers", type=positive, default=3, help="concurrent sweepers in the second burst")
    sweep.add_argument("--latency", type=float, default=0, help="ms added to each call, as by a network")
    sweep.add_argument("--profile", action="store_true", help="profile the Sweeper with pyinstrument")

    arguments = sys.argv[1:] if arguments is None else arguments
    parser = argparse.ArgumentParser(
        prog="python -m tools.bench",
        description="Benchmark of Punctual. Without PART, all is measured; --help after a part lists its options.",
    )
    commands = parser.add_subparsers(dest="command", metavar="PART", required=True)
    commands.add_parser(
        "all",
        help="every part; the default",
        parents=[load, sweep, files, document],
        formatter_class=formatter,
    )
    lateness = commands.add_parser(
        "lateness", help="how late events are", parents=[load, files], formatter_class=formatter
    )
    lateness.add_argument("--stack", metavar="NAME", help="measure this stack on AWS instead of a local one")
    commands.add_parser("sweep", help="how fast the Sweeper is", parents=[sweep, files], formatter_class=formatter)
    commands.add_parser("size", help="how large the functions are", parents=[files], formatter_class=formatter)
    command = commands.add_parser(
        "cli", help="how fast the command's list and count are", parents=[files], formatter_class=formatter
    )
    command.add_argument("--parked-events", type=positive, default=100_000, help="how many events are parked")
    commands.add_parser("report", help="the saved results again", parents=[files, document], formatter_class=formatter)
    has_command = bool(arguments) and (arguments[0] in commands.choices or arguments[0] in ("-h", "--help"))
    return parser.parse_args(arguments if has_command else ["all", *arguments])


def positive(text: str) -> int:
    if (number := int(text)) < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return number


def share(text: str) -> float:
    if not 0 <= (number := float(text)) <= 1:
        raise argparse.ArgumentTypeError("must be from 0 to 1")
    return number


def run(options: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Measure what the command asks for, save each result, and return them by part."""
    parts = PARTS if options.command == "all" else (options.command,)
    results: dict[str, dict[str, Any]] = {}

    def keep(part: str, result: dict[str, Any]) -> None:
        results[part] = result
        save(part, result, options.out)

    if options.command == "lateness" and options.stack:
        keep("lateness", run_lateness(AwsStack(options.stack), options))
        return results
    with local_stack(console) as stack:
        if "lateness" in parts:
            keep("lateness", run_lateness(stack, options))
        if "sweep" in parts:
            keep("sweep", run_sweep(stack, options))
        if "size" in parts:
            keep("size", run_size(stack))
        if "cli" in parts:
            keep("cli", run_cli(stack, options))
    return results


def main() -> None:
    options = parse_arguments()
    results = load_results(options.out) if options.command == "report" else run(options)
    if not results:
        sys.exit(f"No results in {options.out}: run python -m tools.bench first")
    show(results)
    console.print(f"Results: {options.out}")
    if getattr(options, "write", False):
        write(results, options)
    rows = results.get("lateness", {}).get("figures", [])
    missed = cli.misses(results["cli"]) if "cli" in results else []
    for sentence in missed:
        console.print(f"MISSED  {sentence}", style="red", markup=False)
    sys.exit(bool(missed) or any(row["early"] or row["missing"] for row in rows))


if __name__ == "__main__":
    try:
        main()
    except (LocalStackError, BotoCoreError, ClientError) as error:
        sys.exit(f"\n{error}")
