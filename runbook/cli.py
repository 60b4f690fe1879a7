"""The door on the command line: `runbook COMMAND …`. Only argparse is loaded until a command is chosen."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Command:
    """One word after `runbook`: what it answers, the options it takes, and what runs it (the exit status)."""

    name: str
    question: str
    example: str
    add_options: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int]


def _spec_options(parser: argparse.ArgumentParser) -> None:
    sizes = parser.add_argument_group("containers of the pod", "each as CPU/memory, for example 2/6Gi or 250m/512Mi")
    sizes.add_argument("--build", metavar="SIZE", help="what the build container requests")
    sizes.add_argument("--service", metavar="SIZE", action="append", help="a service container; once for each")
    sizes.add_argument("--helper", metavar="SIZE", help="what the helper container requests")
    where = parser.add_argument_group("where and how")
    where.add_argument("--region", metavar="REGION", required=True, help="region of the cluster, such as cn-hangzhou")
    where.add_argument("--site", choices=("cn", "intl"), default="cn", help="whose price list: CNY or USD (default cn)")
    where.add_argument("--spot", action="store_true", help="a spot instance")
    where.add_argument("--economy", action="store_true", help="the economy compute category")
    parser.add_argument("--json", action="store_true", help="print JSON for a program instead of text")


def _spec(options: argparse.Namespace) -> int:
    import json

    from runbook.eci import quote, vocabulary
    from runbook.errors import SpecError
    from runbook.quantities import Size

    services = [("service", size) for size in options.service or ()]
    given = [("build", options.build), *services, ("helper", options.helper)]
    parts = [(name, Size.parse(size, where=f"--{name}")) for name, size in given if size is not None]
    try:
        answer = quote.of(
            parts,
            region=options.region,
            site=options.site,
            spot=options.spot,
            compute_category="economy" if options.economy else None,
        )
    except SpecError as error:
        option = {
            vocabulary.COMPUTE_CATEGORY: "--spot with --economy",
            "region": "--region",
            "request": "the sum of " + ", ".join(dict.fromkeys(f"--{name}" for name, _ in parts)),
        }
        error.where = option.get(error.where or "", error.where)
        raise
    print(json.dumps(answer.as_dict(), indent=2, ensure_ascii=False) if options.json else answer)
    return 0


TRACE_FIELDS = (
    "name, uid, namespace, phase, cpu, memory, created, start, end, image, zone, "
    "project_id, project_path, job_id, job_name"
)
"""What a column of a trace may be, as `runbook.history.from_files.FIELDS` explains it: --help loads nothing to say it."""


def _import_options(parser: argparse.ArgumentParser) -> None:
    sources = parser.add_subparsers(dest="source", metavar="SOURCE", required=True)
    pods = sources.add_parser("pods", help="a file of pods: kubectl's JSON or YAML, or CSV", allow_abbrev=False)
    pods.add_argument("file", metavar="FILE", help="what kubectl printed, or a trace as .csv or .tsv")
    trace = pods.add_argument_group("a trace", "which column is what; data/history/IMPORTING.md has an example")
    trace.add_argument("--column", metavar="FIELD=COLUMN[:UNIT]", action="append", default=[], help=TRACE_FIELDS)
    trace.add_argument("--epoch", metavar="MOMENT", help="moment 0 of times in seconds, or `unix`")
    pods.add_argument("--observed-at", metavar="MOMENT", help="when FILE was written (default: its own time)")
    jobs = sources.add_parser("gitlab-jobs", help="GitLab's verdicts, and jobs that nobody watched", allow_abbrev=False)
    jobs.add_argument("--since", metavar="MOMENT", required=True, help="jobs that ended after it: 7d, 12h, or RFC 3339")
    scope = jobs.add_argument_group(
        "whose jobs", "default: those of the card's runner; each may be given several times"
    )
    scope.add_argument("--runner", metavar="ID", type=int, action="append", default=[], help="a runner's number")
    scope.add_argument("--project", metavar="PATH", action="append", default=[], help="a project")
    scope.add_argument("--group", metavar="PATH", action="append", default=[], help="a group with its subgroups")
    jobs.add_argument("--traces", action="store_true", help="read the traces of jobs that no pod names")
    eci = sources.add_parser("eci", help="what ECI still knows of instances: within an hour", allow_abbrev=False)
    eci.add_argument("--all-namespaces", action="store_true", help="for runners that make a namespace for each job")
    used = sources.add_parser("used", help="CPU and memory that pods really used", allow_abbrev=False)
    used.add_argument("--since", metavar="MOMENT", default="7d", help="pods that ended after it: 7d (default), 12h, …")
    used.add_argument(
        "--source", dest="measured_by", choices=("job", "eci", "prometheus"), help="default: as the card says"
    )
    bill = sources.add_parser("bill", help="the bill of Alibaba Cloud, fetched or exported as CSV", allow_abbrev=False)
    bill.add_argument("file", metavar="FILE", nargs="*", help="exported CSV files (default: fetch the bill)")
    bill.add_argument("--first", metavar="DAY", help="first day to fetch (default: the first of this month)")
    bill.add_argument("--last", metavar="DAY", help="last day to fetch (default: yesterday)")
    runs = (_import_pods, _import_gitlab_jobs, _import_eci, _import_used, _import_bill)
    for source, run in zip((pods, jobs, eci, used, bill), runs, strict=True):
        source.add_argument("--cluster", metavar="CARD", required=True, help="card of the cluster")
        source.add_argument("--dry-run", action="store_true", help="show the report, write nothing")
        source.set_defaults(run=run, parser=source)


def _import_pods(options: argparse.Namespace) -> int:
    from datetime import UTC, datetime

    from runbook.clients import connect
    from runbook.history import imports, store
    from runbook.history.from_files import Columns
    from runbook.settings import Settings, locate

    settings, path = Settings.load(options.cluster), locate(options.file)
    tabbed = path.suffix.lower() == ".tsv"
    columns = Columns.parse(options.column, epoch=options.epoch, delimiter="\t" if tabbed else ",")
    written = datetime.fromtimestamp(path.stat().st_mtime, UTC) if path.exists() else connect.clock().now()
    given = options.observed_at
    observed_at = imports.moment(given, written, where="--observed-at") if given else written
    history = store.open_store(settings)
    report = imports.pods(path, history, settings, columns=columns, observed_at=observed_at, dry_run=options.dry_run)
    print(report)
    return 0 if report.ok else 1


def _import_gitlab_jobs(options: argparse.Namespace) -> int:
    from runbook.clients import connect
    from runbook.history import imports, store
    from runbook.settings import Settings

    settings, now = Settings.load(options.cluster), connect.clock().now()
    report = imports.gitlab_jobs(
        connect.gitlab(settings),
        store.open_store(settings),
        settings,
        since=imports.moment(options.since, now, where="--since"),
        now=now,
        runners=options.runner,
        projects=options.project,
        groups=options.group,
        with_traces=options.traces,
        dry_run=options.dry_run,
    )
    print(report)
    return 0 if report.ok else 1


def _import_eci(options: argparse.Namespace) -> int:
    from runbook.clients import connect
    from runbook.history import imports, store
    from runbook.settings import Settings

    settings = Settings.load(options.cluster)
    report = imports.eci(
        connect.alibaba(settings),
        store.open_store(settings),
        settings,
        now=connect.clock().now(),
        all_namespaces=options.all_namespaces,
        dry_run=options.dry_run,
    )
    print(report)
    return 0 if report.ok else 1


def _history_options(parser: argparse.ArgumentParser) -> None:
    from datetime import date

    parser.add_argument("--cluster", metavar="CARD", required=True, help="card of the cluster")
    days = parser.add_argument_group("which pods", "by the day of their creation (UTC), both included; default: all")
    days.add_argument("--first", metavar="DAY", type=date.fromisoformat, help="such as 2026-11-01")
    days.add_argument("--last", metavar="DAY", type=date.fromisoformat, help="such as 2026-11-30")


def _history(options: argparse.Namespace) -> int:
    from runbook.history import overview, store
    from runbook.settings import Settings

    history = store.open_store(Settings.load(options.cluster))
    print(overview.of(history, first=options.first, last=options.last))
    return 0


def _import_used(options: argparse.Namespace) -> int:
    from runbook.clients import connect
    from runbook.history import imports, store, used, used_imports
    from runbook.settings import Settings

    settings, now = Settings.load(options.cluster), connect.clock().now()
    source = options.measured_by or settings.cost.used.source
    report = used_imports.measure(
        store.open_store(settings),
        used.open_store(settings),
        used_imports.source_of(settings, source, now=now),
        source=source,
        since=imports.moment(options.since, now, where="--since"),
        dry_run=options.dry_run,
    )
    print(report)
    return 0 if report.ok else 1


def _import_bill(options: argparse.Namespace) -> int:
    from runbook.clients import connect
    from runbook.history import bills
    from runbook.settings import Settings, locate

    settings, now = Settings.load(options.cluster), connect.clock().now()
    kept = bills.open_bills(settings)
    if options.file:
        reports = [kept.add(locate(file), dry_run=options.dry_run) for file in options.file]
    else:
        first, last = bills.days(options.first, options.last, now=now)
        ask = connect.alibaba(settings).daily_bill
        reports = [kept.fetch(ask, first, last, now=now, dry_run=options.dry_run)]
    print(*reports, sep="\n")
    return 0 if all(report.ok for report in reports) else 1


def _export_options(parser: argparse.ArgumentParser) -> None:
    kinds = parser.add_subparsers(dest="kind", metavar="KIND", required=True)
    focus = kinds.add_parser("focus", help="charges as a FOCUS 1.2 dataset, for finance tools", allow_abbrev=False)
    focus.add_argument("--cluster", metavar="CARD", required=True, help="card of the cluster")
    focus.add_argument("--month", metavar="MONTH", required=True, help="billing month, such as 2026-11")
    focus.add_argument("--out", metavar="FILE", required=True, help="file to write, ending in .parquet or .csv")
    focus.add_argument("--account", metavar="ID", help="account that is billed (default: the one of the kept bill)")
    focus.set_defaults(run=_export_focus, parser=focus)


def _export_focus(options: argparse.Namespace) -> int:
    from pathlib import Path

    from runbook.review import billing
    from runbook.settings import Settings

    settings = Settings.load(options.cluster)
    report = billing.export_focus(settings, options.month, Path(options.out), account=options.account)
    print(report)
    return 0 if report.ok else 1


def _collect_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--cluster", metavar="CARD", required=True, help="card of the cluster")
    parser.add_argument("--minutes", metavar="MINUTES", type=float, help="end after this time (default: on SIGTERM)")
    parser.add_argument("--all-namespaces", action="store_true", help="for runners that make a namespace for each job")
    parser.add_argument("--place", metavar="FOLDER", help="where to keep the place that the next run goes on from")


def _collect(options: argparse.Namespace) -> int:
    import signal
    import threading
    from pathlib import Path

    from runbook.clients import connect
    from runbook.history import store, watch
    from runbook.settings import Settings

    settings, stop = Settings.load(options.cluster), threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    client = connect.kubernetes(settings)
    report = watch.collect(
        client,
        settings,
        store.open_store(settings, client),
        minutes=options.minutes,
        place=Path(options.place) if options.place else None,
        all_namespaces=options.all_namespaces,
        stop=stop,
        show=lambda line: print(line, flush=True),
    )
    print(report)
    return 0 if report.ok else 1


def _review_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--cluster", metavar="CARD", required=True, help="card of the cluster")
    days = parser.add_argument_group(
        "which days", "default: this month, or the last one that has pods, up to its last pod"
    )
    days.add_argument("--month", metavar="MONTH", help="a whole month, such as 2026-11")
    days.add_argument("--first", metavar="DAY", help="first day, such as 2026-11-01; not with --month")
    days.add_argument("--last", metavar="DAY", help="last day, such as 2026-11-30; not with --month")


def _review(options: argparse.Namespace) -> int:
    from runbook.cost.other_costs import month_days
    from runbook.errors import SettingsError
    from runbook.review import billing, pack, period
    from runbook.settings import Settings

    first, last = options.first or "", options.last or ""
    if options.month and (first or last):
        raise SettingsError("Either a month or days, not both.", where="--month", value=options.month)
    if options.month:
        begin = billing.first_day(options.month)
        first, last = begin.isoformat(), begin.replace(day=month_days(begin)).isoformat()
    review = pack.review(period.open_period(Settings.load(options.cluster), first, last))
    print(review, review.report, f"The page is {review.page}", sep="\n")
    return 0 if review.report.ok else 1


COMMANDS = (
    Command(
        "spec",
        "Which ECI spec does a job pod become, and at what list price?",
        "runbook spec --build 2/6Gi --service 1/1Gi --helper 250m/512Mi --region cn-hangzhou",
        _spec_options,
        _spec,
    ),
    Command(
        "collect",
        "Which job pods live now, which ended, when and how? Watches until it is told to end.",
        "runbook collect --cluster data/clusters/practice.yaml --minutes 55",
        _collect_options,
        _collect,
    ),
    Command(
        "import",
        "What do GitLab, ECI, the bill, or files of pods know that the history does not?",
        "runbook import gitlab-jobs --cluster data/clusters/practice.yaml --since 7d",
        _import_options,
        _import_pods,
    ),
    Command(
        "review",
        "What does CI cost, why did it move, whose is it, and what do we do? Writes the page for the meeting.",
        "runbook review --cluster data/clusters/practice.yaml --month 2026-11",
        _review_options,
        _review,
    ),
    Command(
        "export",
        "What did a month cost, in the columns that finance tools of any cloud read?",
        "runbook export focus --cluster data/clusters/practice.yaml --month 2026-11 --out focus.parquet",
        _export_options,
        _export_focus,
    ),
    Command(
        "history",
        "How many pods does the history hold, and how is each moment of their lives known?",
        "runbook history --cluster data/clusters/practice.yaml --first 2026-11-01",
        _history_options,
        _history,
    ),
)


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    root = argparse.ArgumentParser(prog="runbook", description="Answers about GitLab CI on Alibaba Cloud ECI.")
    commands = root.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for command in COMMANDS:
        sub = commands.add_parser(
            command.name,
            help=command.question,
            description=command.question,
            epilog=f"example: {command.example}",
            allow_abbrev=False,
        )
        sub.set_defaults(run=command.run, parser=sub)
        command.add_options(sub)
    return root


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command. Its answer goes to standard output; bad input ends with status 2 and a page that says why."""
    from runbook.errors import RunbookError

    options, unknown = parser().parse_known_args(arguments)
    if unknown:
        options.parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    try:
        return int(options.run(options))
    except RunbookError as error:
        print(f"{options.parser.format_usage()}{options.parser.prog}: error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
