"""`python -m torture`: runs attacks one after the other and shows the verdicts. Exit status 1 where one failed."""

import os
import signal
import sys
import tempfile
from argparse import ArgumentParser, Namespace
from pathlib import Path

from torture.attacks import ATTACKS, Attack
from torture.skipped import Skipped
from torture.trial import Orders
from torture.verdict import Verdict, append, show


def main(arguments: list[str] | None = None) -> int:
    """Runs what the command line asks for; the exit status."""
    options = _parser().parse_args(arguments)
    # So that no server is left behind when this is ended.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    if options.list:
        for attack in ATTACKS:
            sys.stdout.write(f"{attack.name:20} {attack.sentence}\n")
        return 0
    verdicts = [verdict for attack in _chosen(options) if (verdict := _try(attack, options))]
    show(verdicts)
    return 0 if all(verdict.passed for verdict in verdicts) else 1


def _parser() -> ArgumentParser:
    names = [attack.name for attack in ATTACKS]
    parser = ArgumentParser(prog="python -m torture", description="Attacks servers of its own and counts what is lost.")
    parser.add_argument("--attack", action="append", choices=names, help="which; may be repeated; all by default")
    parser.add_argument("--seed", type=int, default=1, help="the same seed makes the same choices")
    parser.add_argument("--kills", type=int, dest="faults", metavar="N", help="how many faults each attack makes")
    parser.add_argument("--short", action="store_true", help="the form for CI, well below a minute")
    parser.add_argument("--json", type=Path, metavar="FILE", help="adds each verdict to FILE as a line of JSON")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="where to put the data, and to leave it")
    parser.add_argument("--list", action="store_true", help="shows the attacks and ends")
    return parser


def _chosen(options: Namespace) -> list[Attack]:
    if options.attack:
        return [attack for attack in ATTACKS if attack.name in options.attack]
    return [attack for attack in ATTACKS if attack.short or not options.short]


def _try(attack: Attack, options: Namespace) -> Verdict | None:
    """The verdict; None where the attack cannot run here, which in CI is an error."""
    try:
        return _run(attack, options)
    except Skipped as error:
        if os.environ.get("CI"):
            raise
        sys.stderr.write(f"{attack.name}: skipped. {error}\n")
        return None


def _run(attack: Attack, options: Namespace) -> Verdict:
    sys.stderr.write(f"{attack.name}: {attack.sentence}\n")
    if options.keep:
        verdict = attack.run(Orders(options.keep, options.seed, options.faults, options.short))
    else:
        with tempfile.TemporaryDirectory(prefix="kixo-torture-") as folder:
            verdict = attack.run(Orders(Path(folder), options.seed, options.faults, options.short))
    if options.json:
        append(verdict, options.json)
    return verdict


if __name__ == "__main__":
    sys.exit(main())
