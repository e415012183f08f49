"""PostgreSQL with one user, who needs a password. As root it runs as the user that Debian's package made."""

import os
import pwd
import shutil
import subprocess
import uuid
from pathlib import Path

from services.errors import Missing, NotStarted
from services.installed import INSTALL, program_path
from services.program import LOOPBACK, Program, free_port

USER = "kixo"
PASSWORD = "kixo-secret"
DEBIAN_USER = "postgres"
# What is kept is not wanted back, so nothing waits for the disk.
SETTINGS = ("fsync=off", "full_page_writes=off", "synchronous_commit=off", "shared_buffers=16MB", "max_connections=100")


def server(folder: Path, host: str = LOOPBACK) -> Program:
    """The server, not yet started; its user must be able to reach `folder`. Raises `Missing`."""
    program = program_path("postgres")
    user = _user()
    home = folder / "postgresql"
    home.mkdir(parents=True)
    if user:
        shutil.chown(home, user, user)
    _make_data(home, user)
    _let_in(home / "data" / "pg_hba.conf", host)
    port = free_port(host)
    settings = (*SETTINGS, f"listen_addresses={host}", f"port={port}", f"unix_socket_directories={home}")
    options = [word for setting in settings for word in ("-c", setting)]
    return Program("postgresql", (program, "-D", str(home / "data"), *options), home, port, host, user=user)


def make_database(program: Program) -> str:
    """A new, empty database of the running server. Raises `NotStarted`."""
    name = f"kixo_{uuid.uuid4().hex[:12]}"
    command = [program_path("createdb"), "-h", program.host, "-p", str(program.port), "-U", USER, name]
    done = subprocess.run(command, env={**os.environ, **secret()}, capture_output=True, text=True, check=False)
    if done.returncode:
        raise NotStarted(f"No database could be made. {done.stderr}")
    return name


def secret() -> dict[str, str]:
    """The user's password, as PostgreSQL's own programs read it."""
    return {"PGPASSWORD": PASSWORD}


def url(program: Program, database: str) -> str:
    """Where a database is."""
    return f"postgresql://{USER}@{program.host}:{program.port}/{database}"


def variables(program: Program, database: str) -> dict[str, str]:
    """What opens a database as the registry."""
    return {"KIXO_REGISTRY": url(program, database), "KIXO_REGISTRY_PASSWORD": PASSWORD}


def _user() -> str:
    if os.geteuid():
        return ""
    try:
        return pwd.getpwnam(DEBIAN_USER).pw_name
    except KeyError:
        raise Missing(f"PostgreSQL does not run as root, and the user {DEBIAN_USER} is not there. {INSTALL}") from None


def _let_in(card: Path, host: str) -> None:
    """Lets in those who come from the network of a host that is not loopback."""
    if host != LOOPBACK:
        with card.open("a") as file:
            file.write(f"host all all {host}/24 scram-sha-256\n")


def _make_data(home: Path, user: str) -> None:
    password = home / "password"
    password.write_text(PASSWORD)
    rights = ("--auth=scram-sha-256", f"--username={USER}", f"--pwfile={password}")
    command = [program_path("initdb"), "--no-sync", "--encoding=UTF8", "--locale=C", *rights, "-D", str(home / "data")]
    done = subprocess.run(command, user=user or None, cwd=home, capture_output=True, text=True, check=False)
    password.unlink()
    if done.returncode:
        raise NotStarted(f"initdb failed. {done.stderr}")
