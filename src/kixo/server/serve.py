"""`kixo serve`: opens everything in order, runs, and closes it in reverse order."""

import os
import sys
from contextlib import ExitStack, closing
from ipaddress import ip_address
from pathlib import Path

from kixo.errors import BadSetting
from kixo.layout import Layout
from kixo.log.folder import ensure_log
from kixo.metric_file import MetricFile
from kixo.registry import Registry, open_registry
from kixo.server.addresses import reserve
from kixo.server.child import make_metric_folder
from kixo.server.data_folder import DataFolder
from kixo.server.logs import open_log
from kixo.server.supervisor import Supervisor
from kixo.server_card import ServerCard, address_url
from kixo.settings import Settings, worker_count

DEMO_PROJECT = "kx_proj_abc123"
DEMO_KEY = "kx_key_xyz789"


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
        ensure_log(layout.log)
        greeting = _prepare_registry(settings, demo)
        metrics = stack.enter_context(closing(MetricFile(make_metric_folder(settings) / "supervisor-0")))
        log = open_log(settings, "supervisor")
        supervisor = Supervisor(settings, public, private, with_loader=with_loader, metrics=metrics, log=log)
        stack.callback(supervisor.close)
        supervisor.start()
        address = address_url(settings.host, public.getsockname()[1])
        console = address_url(settings.console_host, private.getsockname()[1])
        folder.announce(ServerCard(os.getpid(), address, console, worker_count(settings)))
        _greet(address, console, settings, greeting)
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


def _prepare_registry(settings: Settings, demo: bool) -> tuple[str, str] | None:
    """Makes the first project and key, and those of the demo; returns what is to be shown, if anything."""
    with closing(open_registry(settings, make=True)) as registry:
        shown = None
        if not registry.list_projects():
            project = registry.create_project("First project")
            _, key = registry.create_key(project.id)
            shown = project.id, key
        if demo:
            _add_demo(registry)
        return shown


def _add_demo(registry: Registry) -> None:
    if registry.find_project(DEMO_PROJECT) is None:
        registry.create_project("Demo", DEMO_PROJECT)
        registry.create_key(DEMO_PROJECT, DEMO_KEY)


def _greet(address: str, console: str, settings: Settings, shown: tuple[str, str] | None) -> None:
    lines = [f"Kixo takes events at {address}/v1/batch and shows metrics at {console}/metrics"]
    if shown is not None:
        project, key = shown
        lines += ["", f"First project: {project}", f"Its API key:   {key}   (shown only now)", ""]
        lines += ["Send an event:", "", _curl(address, project, key), "", "And see it:", ""]
        folder = "" if settings.data_dir == Settings().data_dir else f" --data-dir {settings.data_dir}"
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
