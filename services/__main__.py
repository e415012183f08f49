"""`scripts/services`: installs, starts, shows and stops the services of a checkout."""

import hashlib
import shlex
import sys
import tempfile
from argparse import ArgumentParser, Namespace
from pathlib import Path

from services import running
from services.errors import Missing, NotStarted
from services.installed import install
from services.spark import install_spark


def main(arguments: list[str] | None = None) -> int:
    """Runs a command; the exit status."""
    options = _parser().parse_args(arguments)
    try:
        return _run(options)
    except (Missing, NotStarted) as error:
        sys.stderr.write(f"{error}\n")
        return 1


def _parser() -> ArgumentParser:
    parser = ArgumentParser(prog="scripts/services", description="Real services for tests, on free ports of loopback.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("install", help="puts what they need on this machine")
    start = commands.add_parser("start", help="starts them and prints the variables to export")
    start.add_argument("names", nargs="*", metavar="NAME", help=f"{', '.join(running.NAMES)}; all by default")
    start.add_argument("--brokers", type=int, default=1, choices=(1, 3), help="how many brokers Kafka has")
    status = commands.add_parser("status", help="shows which run")
    stop = commands.add_parser("stop", help="stops them and removes what they kept")
    keep = commands.add_parser("keep", help="stops them when nobody holds their folder any more")
    for command in (start, status, stop, keep):
        command.add_argument("--folder", type=Path, default=_own_folder(), help="where they keep everything")
    return parser


def _run(options: Namespace) -> int:
    match options.command:
        case "install":
            install()
            install_spark()
        case "start":
            _start(options)
        case "status":
            return _status(options.folder)
        case "stop":
            running.end(options.folder)
        case _:
            running.keep(options.folder)
    return 0


def _start(options: Namespace) -> None:
    if unknown := sorted(set(options.names) - set(running.NAMES)):
        raise Missing(f"There is no service {unknown[0]}; there are {', '.join(running.NAMES)}.")
    options.folder.mkdir(parents=True, exist_ok=True)
    options.folder.chmod(0o711)
    with running.alone(options.folder):
        found = running.start(options.folder, options.names or running.NAMES, options.brokers)
    for name, value in found.variables.items():
        sys.stdout.write(f"export {name}={shlex.quote(value)}\n")


def _status(folder: Path) -> int:
    found = running.status(folder)
    for name, runs in found.items():
        sys.stdout.write(f"{name:12} {'runs' if runs else 'ended'}\n")
    if not found:
        sys.stdout.write("Nothing was started.\n")
    return 0 if found and all(found.values()) else 1


def _own_folder() -> Path:
    """One folder per checkout, so that checkouts do not meet."""
    checkout = Path(__file__).resolve().parent.parent
    mark = hashlib.blake2b(str(checkout).encode(), digest_size=4).hexdigest()
    return Path(tempfile.gettempdir(), f"kixo-services-{checkout.name}-{mark}")


if __name__ == "__main__":
    sys.exit(main())
