"""`python -m torture.soak`: runs a soak, or judges the samples of one again. Exit status 1 where something grows."""

import signal
import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path

from kixo.output import print_line
from torture.soak.plot import draw
from torture.soak.report import Verdict, judge_all, read_samples, show, write_verdict
from torture.soak.run import Plan, soak

OUTPUT = Path("build") / "soak"


def main(arguments: list[str] | None = None) -> int:
    """Runs what the command line asks for; the exit status."""
    options = _parser().parse_args(arguments)
    # SIGTERM too must end the servers that we have started.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if options.judge:
        verdict = Verdict(judgements=judge_all(read_samples(options.output / "samples.csv")))
    else:
        verdict = soak(_plan(options))
        write_verdict(verdict, options.output / "verdict.json")
    samples = read_samples(options.output / "samples.csv")
    draw(samples, options.title, options.output / "soak.png")
    show(verdict)
    print_line(f"Samples, plot and verdict are in {options.output}.")
    return 1 if verdict.failed else 0


def _parser() -> ArgumentParser:
    parser = ArgumentParser(prog="python -m torture.soak", description="Runs a server for long, and looks what grows.")
    parser.add_argument("--minutes", type=float, default=60.0, help="how long; 1 for a try, 20 to be judged")
    parser.add_argument("--rate", type=float, help="events a second; half of what can be sustained by default")
    parser.add_argument("--interval", type=float, default=5.0, help="seconds between two samples")
    parser.add_argument("--seed", type=int, default=1, help="seed of the traffic")
    parser.add_argument("--workers", type=int, default=0, help="workers of the server; 0 is its own choice")
    parser.add_argument("--output", type=Path, default=OUTPUT, help="where samples, plot and verdict go")
    parser.add_argument("--folder", type=Path, help="where the server's data are put meanwhile")
    parser.add_argument("--title", default="A server under load", help="what stands above the plot")
    parser.add_argument("--judge", action="store_true", help="only judge and draw what is in --output already")
    return parser


def _plan(options: Namespace) -> Plan:
    return Plan(
        options.minutes,
        options.rate,
        options.interval,
        options.seed,
        options.workers,
        options.output,
        options.folder,
    )


if __name__ == "__main__":
    sys.exit(main())
