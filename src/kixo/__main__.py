"""`kixo` and `python -m kixo`."""

import sys
from importlib.util import find_spec

# What `kixo[server]` brings and the light client does without.
SERVER_PACKAGES = (
    "cyclopts",
    "deltalake",
    "duckdb",
    "granian",
    "msgspec",
    "pyarrow",
    "rich",
    "sqlalchemy",
    "starlette",
)


def main() -> int:
    """Runs the command line; returns the status of the process."""
    missing = [name for name in SERVER_PACKAGES if find_spec(name) is None]
    if missing:
        sys.stderr.write(f"kixo: The server is not installed ({', '.join(missing)}). pip install 'kixo[server]'\n")
        return 2
    from kixo.cli import run

    return run(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
