"""Redis, with a password and many small databases, which keeps nothing on disk."""

from pathlib import Path

from services.installed import program_path
from services.program import LOOPBACK, Program, free_port

PASSWORD = "kixo-secret"
DATABASES = 1000


def server(folder: Path, host: str = LOOPBACK) -> Program:
    """The server, not yet started. Raises `Missing`."""
    program = program_path("redis-server")
    home = folder / "redis"
    home.mkdir(parents=True)
    port = free_port(host)
    card = home / "redis.conf"
    lines = (f"bind {host}", f"port {port}", f"requirepass {PASSWORD}", f"databases {DATABASES}", 'save ""')
    card.write_text("".join(f"{line}\n" for line in lines))
    return Program("redis", (program, str(card)), home, port, host)


def variables(program: Program, database: int) -> dict[str, str]:
    """What opens a database as the rate limit."""
    url = f"redis://{program.host}:{program.port}/{database}"
    return {"KIXO_LIMITS": url, "KIXO_LIMITS_PASSWORD": PASSWORD}
