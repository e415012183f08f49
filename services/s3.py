"""An S3 server whose buckets are folders: versitygw. The account is fixed and opens nothing else."""

import uuid
from pathlib import Path

from services.installed import require_versitygw
from services.program import LOOPBACK, Program, free_port

ACCESS_KEY = "kixo"
SECRET_KEY = "kixo-secret"
REGION = "us-east-1"
BUCKETS = "buckets"


def server(folder: Path, host: str = LOOPBACK) -> Program:
    """The server, not yet started, with what it keeps in `folder`. Raises `Missing`."""
    program = require_versitygw()
    home = folder / "s3"
    (home / BUCKETS).mkdir(parents=True)
    port = free_port(host)
    listen = ("--port", f"{host}:{port}", "--region", REGION, "--keep-alive", "--quiet")
    # What is known of an object lies beside the folders: not every file system keeps attributes.
    (home / "known").mkdir()
    command = (str(program), *listen, "posix", "--sidecar", str(home / "known"), str(home / BUCKETS))
    account = {"ROOT_ACCESS_KEY": ACCESS_KEY, "ROOT_SECRET_KEY": SECRET_KEY}
    return Program("s3", command, home, port, host, account)


def make_bucket(program: Program) -> str:
    """A new bucket of the server."""
    name = f"kixo-{uuid.uuid4().hex[:12]}"
    (program.folder / BUCKETS / name).mkdir()
    return name


def variables(program: Program) -> dict[str, str]:
    """What clients of S3 read in their environment."""
    return {
        "AWS_ACCESS_KEY_ID": ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
        "AWS_REGION": REGION,
        "AWS_ENDPOINT_URL": f"http://{program.host}:{program.port}",
        "AWS_ALLOW_HTTP": "true",
        # Credentials come from here alone: nobody is asked for others.
        "AWS_EC2_METADATA_DISABLED": "true",
    }
