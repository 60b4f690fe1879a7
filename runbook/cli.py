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


COMMANDS = (
    Command(
        "spec",
        "Which ECI spec does a job pod become, and at what list price?",
        "runbook spec --build 2/6Gi --service 1/1Gi --helper 250m/512Mi --region cn-hangzhou",
        _spec_options,
        _spec,
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
        command.add_options(sub)
        sub.set_defaults(run=command.run, parser=sub)
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
