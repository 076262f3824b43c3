"""The command line: `python -m tools.estimates --help`."""

from typing import Any

import click

from tools.estimates import cost as cost_tables
from tools.estimates import counting, pricing, template
from tools.estimates import scale as scale_tables
from tools.estimates.rules import Setup
from tools.estimates.simulation import parked_burst

SHARE = click.FloatRange(0, 1)
USE = pricing.Use()


@click.group(context_settings={"show_default": True})
def estimates() -> None:
    """What Punctual costs, and how late events are in a burst. Arithmetic and simulation, not measured on AWS."""


@estimates.group(invoke_without_command=True)
@click.pass_context
@click.option("--events", type=click.FloatRange(min=0), default=USE.events, help="Events a month.")
@click.option(
    "--interval",
    "interval_seconds",
    type=click.Choice(cost_tables.INTERVALS),
    default=USE.interval_seconds,
    help="SweepIntervalSeconds.",
)
@click.option(
    "--logs",
    type=click.Choice(template.allowed_values("ExecutionLogLevel")),
    default=USE.logs,
    help="ExecutionLogLevel.",
)
@click.option("--far-share", type=SHARE, default=USE.far_share, help="Events that are parked.")
@click.option("--fraction-share", type=SHARE, default=USE.fraction_share, help="Dates with a fraction of a second.")
@click.option("--named-share", type=SHARE, default=USE.named_share, help="Events with an id.")
@click.option("--failed-share", type=SHARE, default=USE.failed_share, help="Events that cannot be delivered.")
@click.option("--payload-bytes", type=click.IntRange(min=1), default=USE.payload_bytes)
@click.option(
    "--batching",
    "batching_seconds",
    type=click.IntRange(0, 5),
    default=USE.batching_seconds,
    help="IngestBatchingSeconds.",
)
@click.option("--retention-days", type=click.IntRange(min=1), default=USE.retention_days, help="LogRetentionDays.")
@click.option(
    "--architecture",
    type=click.Choice(template.allowed_values("Architecture")),
    default=USE.architecture,
    help="Architecture.",
)
@click.option("--tracing", "is_traced", type=bool, default=USE.is_traced, help="Tracing.")
@click.option("--dashboard", "has_dashboard", type=bool, default=USE.has_dashboard, help="Dashboard.")
@click.option("--probe", "has_probe", type=bool, default=USE.has_probe, help="Probe.")
def cost(context: click.Context, /, **use: Any) -> None:
    """What one month costs, line by line; shares are from 0 to 1."""
    if context.invoked_subcommand is None:
        cost_tables.print_bill(pricing.Use(**use), counting.load(), pricing.load_prices())


@cost.command()
def count() -> None:
    """Count what the code calls, anew, into tools/estimates/calls.json."""
    counting.save(counting.count())


@cost.command("document")
def cost_document() -> None:
    """Write the tables of docs/cost.md again, and draw its picture."""
    cost_tables.renew_document(counting.load(), pricing.load_prices())


@estimates.group(invoke_without_command=True)
@click.pass_context
def scale(context: click.Context) -> None:
    """How late events are in bursts and busy months, in tables (about two minutes)."""
    if context.invoked_subcommand is None:
        for name, table in scale_tables.TABLES.items():
            click.echo(f"### {name}\n\n{table()}\n")


@scale.command()
@click.argument("events", type=click.IntRange(min=1))
@click.option("--interval", type=click.Choice(cost_tables.INTERVALS), help="Seconds between sweeps.")
@click.option("--horizon", type=click.FloatRange(min=0.1), help="Seconds before the due time; default: by interval.")
@click.option("--look-ahead", type=click.FloatRange(min=0), help="Seconds after the horizon.")
@click.option("--lane-rate", type=float, help="Events a second beyond which a lane is crowded; inf: never.")
@click.option("--helpers-after", type=float, help="Events to start from which on a Sweeper calls helpers; inf: never.")
@click.option("--call-attempts", type=click.IntRange(min=1), help="Attempts of a call, with backoff.")
@click.option("--lanes", type=click.IntRange(min=1))
@click.option("--threads", type=click.IntRange(min=1), help="Threads of a Sweeper.")
@click.option("--batch", type=click.IntRange(min=1), help="Events that a thread takes at a time.")
@click.option("--starts", type=float, help="Quota of StartExecution a second.")
@click.option("--reads", type=float, help="Quota of register reads a second.")
@click.option("--publishes", type=float, help="Quota of SNS publishes a second.")
@click.option("--writes", type=float, help="Quota of writes to Parked a second.")
@click.option("--partitions", type=click.IntRange(min=1), help="Partitions of Parked, of 1,000 writes a second.")
@click.option("--sweeper-rate", type=float, help="Starts a second of one Sweeper.")
@click.option("--cold-start", type=float, help="Seconds.")
@click.option("--sweep-missed", "is_sweep_missed", is_flag=True, help="The sweep that would find the events fails.")
def burst(events: int, is_sweep_missed: bool, **options: Any) -> None:
    """One burst: that many parked EVENTS, due in the same second. Options that are left out are as shipped."""
    setup = Setup(**{name: value for name, value in options.items() if value is not None})
    click.echo(scale_tables.outcome_table(parked_burst(setup, events, is_sweep_missed=is_sweep_missed)))


@scale.command("document")
def scale_document() -> None:
    """Write the tables of docs/scale.md again."""
    scale_tables.renew_document()


if __name__ == "__main__":
    estimates(prog_name="python -m tools.estimates")
