"""`kixo serve`: opens everything in order, runs, and closes it in reverse order."""

import os
import sys
from contextlib import ExitStack, closing
from ipaddress import ip_address
from pathlib import Path
from typing import NamedTuple

from kixo.errors import BadSetting
from kixo.layout import Layout
from kixo.log.opening import ensure_log
from kixo.metric_file import MetricFile
from kixo.registry import Registry, open_registry
from kixo.registry.login import create_login_token, has_session_secret, session_secret
from kixo.server.addresses import reserve
from kixo.server.child import make_metric_folder
from kixo.server.data_folder import DataFolder
from kixo.server.logs import open_log
from kixo.server.supervisor import Supervisor
from kixo.server_card import ServerCard, address_url
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
    layout = Layout(settings.data_dir)
    _check_registry(settings)
    with ExitStack() as stack:
        folder = stack.enter_context(closing(DataFolder(layout)))
        public = stack.enter_context(reserve(settings.host, settings.port))
        private = stack.enter_context(reserve(settings.console_host, settings.console_port, "--console-port"))
        ensure_log(settings)
        shown = _prepare_registry(settings, demo)
        metrics = stack.enter_context(closing(MetricFile(make_metric_folder(settings) / "supervisor-0")))
        log = open_log(settings, "supervisor")
        supervisor = Supervisor(settings, public, private, with_loader=with_loader, metrics=metrics, log=log)
        stack.callback(supervisor.close)
        supervisor.start()
        address = address_url(settings.host, public.getsockname()[1])
        console = address_url(settings.console_host, private.getsockname()[1])
        folder.announce(ServerCard(os.getpid(), address, console, worker_count(settings)))
        _greet(address, settings.console_url or console, settings, shown)
        supervisor.run()
        log.info("stopping")
        supervisor.stop()
        log.info("stopped")


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
    """Makes the first project and key, those of the demo, and the first way into the console."""
    with closing(open_registry(settings, make=True)) as registry:
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
        registry.create_project("Demo", DEMO_PROJECT)
        registry.create_key(DEMO_PROJECT, DEMO_KEY)


def _greet(address: str, console: str, settings: Settings, shown: Shown) -> None:
    folder = "" if settings.data_dir == Settings().data_dir else f" --data-dir {settings.data_dir}"
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
    sys.stdout.write("\n".join(lines) + "\n")
    sys.stdout.flush()


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
