"""`kixo serve`, `kixo ingest`, `kixo load` and `kixo console`: what each prepares, and shows once it runs."""

import sys
from contextlib import closing, suppress
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path
from typing import NamedTuple

from kixo.errors import BadArgument, BadSetting, RegistryUnreachable
from kixo.layout import Layout
from kixo.registry import Registry, open_registry
from kixo.registry.login import create_login_token, has_session_secret, session_secret
from kixo.registry.source import kept_snapshot
from kixo.server.node import Greet, Node, run_node, whole_node
from kixo.settings import Settings, worker_count

DEMO_PROJECT = "kx_proj_abc123"
DEMO_KEY = "kx_key_xyz789"


class Shown(NamedTuple):
    """What is shown at a start, and at no later one: the first project with its key, and a way into the console."""

    project: str | None
    key: str | None
    login_token: str | None


def serve(settings: Settings, *, demo: bool = False, with_loader: bool = True) -> None:
    """Runs the server until a signal ends it. Raises `OperatorError` where it cannot start."""
    if demo:
        _require_loopback(settings.host)
    _check_registry(settings)
    whole = whole_node(settings)

    def prepare() -> Greet:
        shown = _prepare_registry(settings, demo)
        return lambda address, console: _greeting(address, settings.console_url or console, settings, shown)

    run_node(settings, whole if with_loader else replace(whole, loaders=0), prepare)


def ingest(settings: Settings) -> None:
    """Runs a node that takes events until a signal ends it. Raises `OperatorError` where it cannot start."""
    node = Node("ingest", worker_count(settings), 0, console=False)
    run_node(
        settings, node, lambda: lambda address, private: f"Kixo takes events at {address}/v1/batch; {_told(private)}"
    )


def load(settings: Settings) -> None:
    """Runs a node that fills the tables until a signal ends it. Raises `OperatorError` where it cannot start."""
    node = Node("load", 0, settings.loaders, console=False)
    run_node(settings, node, lambda: lambda _, private: f"Kixo fills the tables; {_told(private)}")


def console(settings: Settings) -> None:
    """Runs a node with the console until a signal ends it. Raises `OperatorError` where it cannot start."""

    def prepare() -> Greet:
        with closing(open_registry(settings, make=True)) as registry:
            session_secret(registry)
        return lambda _, private: (
            f"Kixo shows its console and metrics at {settings.console_url or private}\n"
            f"To open the console: {_command()} console login-link{_folder(settings)}\n"
        )

    run_node(settings, Node("console", 0, 0, console=True), prepare)


def _told(private: str) -> str:
    return f"its metrics are at {private}/metrics\n"


def _require_loopback(host: str) -> None:
    try:
        loopback = host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        loopback = False
    if not loopback:
        raise BadSetting(
            f"--demo adds a key that everybody knows, and --host {host} is not a loopback address.",
            "Leave out --demo or --host.",
        )


def _check_registry(settings: Settings) -> None:
    """Refuses a registry that cannot be used, one of a newer Kixo too, before anything in the folder is changed."""
    if Layout(settings.data_dir).registry.exists():
        open_registry(settings, migrate=False).close()


def _prepare_registry(settings: Settings, demo: bool) -> Shown:
    """Makes the first project and key, those of the demo, and the first way into the console.

    Nothing of it where the registry is away and what workers go on with was kept. Raises `OperatorError`.
    """
    try:
        opened = open_registry(settings, make=True)
    except RegistryUnreachable:
        kept = kept_snapshot(Layout(settings.data_dir).snapshot, settings.registry)
        if demo or kept is None or kept.read() is None:
            raise
        return Shown(None, None, None)
    with closing(opened) as registry:
        project = key = login_token = None
        if not registry.list_projects(1):
            project = registry.create_project("First project").id
            _, key = registry.create_key(project)
        if demo:
            _add_demo(registry)
        if not has_session_secret(registry):
            session_secret(registry)
            login_token = create_login_token(registry, settings.login_token_s)
        return Shown(project, key, login_token)


def _add_demo(registry: Registry) -> None:
    if registry.find_project(DEMO_PROJECT) is None:
        # Another node may be doing the same.
        with suppress(BadArgument):
            registry.create_project("Demo", DEMO_PROJECT)
            registry.create_key(DEMO_PROJECT, DEMO_KEY)


def _greeting(address: str, console: str, settings: Settings, shown: Shown) -> str:
    folder = _folder(settings)
    lines = [f"Kixo takes events at {address}/v1/batch and shows them and its metrics at {console}"]
    if shown.login_token is not None:
        within = f"once, within {settings.login_token_s / 60:g} minutes"
        lines += ["", f"Open the console ({within}):", "", f"  {console}/login?token={shown.login_token}", ""]
    else:
        lines += [f"To open the console: {_command()} console login-link{folder}"]
    if shown.project is not None and shown.key is not None:
        lines += [f"First project: {shown.project}", f"Its API key:   {shown.key}   (shown only now)", ""]
        lines += ["Send an event:", "", _curl(address, shown.project, shown.key), "", "And see it:", ""]
        lines += [f'  {_command()} query{folder} "SELECT timestamp, event_name, properties FROM events"', ""]
    return "\n".join(lines) + "\n"


def _folder(settings: Settings) -> str:
    return "" if settings.data_dir == Settings().data_dir else f" --data-dir {settings.data_dir}"


def _command() -> str:
    """How this program was called, so that the same works again in the same shell."""
    called = sys.argv[0]
    return called if Path(called).name == "kixo" and "/" in called else "kixo"


def _curl(address: str, project: str, key: str) -> str:
    return f"""\
  curl -X POST {address}/v1/batch \\
    -H 'Content-Type: application/json' \\
    -d '{{"project_id": "{project}", "api_key": "{key}",
         "bundle_id": "com.example.app", "platform": "web",
         "batch": [{{"event_type": "page_view", "event_name": "/pricing",
                    "device_id": "d_001", "session_id": "s_001",
                    "timestamp": "'$(date -u +%Y-%m-%dT%H:%M:%SZ)'",
                    "properties": {{"referrer": "https://google.com"}}}}]}}'"""
