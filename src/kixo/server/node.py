"""A node: the parts of the server that one command runs, opened in order, run, and closed in reverse order.

`kixo serve` runs all parts on one machine; `kixo ingest`, `kixo load` and `kixo console` run one kind each, on as many
machines as are needed. Beside what is local, a node keeps only `run/` and what is derived, and can be thrown away.
Each has a private port with `/metrics`, `/healthz` and `/readyz`.
"""

import os
import sys
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import dataclass

from kixo.errors import BadSetting
from kixo.lake.move_card import check_not_moving
from kixo.lake.opening import open_lake
from kixo.layout import Layout
from kixo.log.opening import ensure_log
from kixo.metric_file import MetricFile
from kixo.server.addresses import reserve
from kixo.server.child import make_metric_folder
from kixo.server.data_folder import DataFolder
from kixo.server.logs import open_log
from kixo.server.supervisor import Post, Supervisor
from kixo.server_card import ServerCard, address_url
from kixo.settings import Settings, worker_count


@dataclass(frozen=True)
class Node:
    """How many processes of each kind run, and whether the private port has the console or only the metrics."""

    command: str
    workers: int
    loaders: int
    console: bool


Greet = Callable[[str, str], str]
"""What is shown once everything runs, given the URLs of the public and the private port; the first may be empty."""


def whole_node(settings: Settings) -> Node:
    """All parts, as `kixo serve` runs them."""
    return Node("serve", worker_count(settings), settings.loaders, console=True)


def run_node(settings: Settings, node: Node, prepare: Callable[[], Greet]) -> None:
    """Runs the node until a signal ends it; `prepare` is called when the data folder is held and nothing runs yet.

    Raises `OperatorError` where it cannot start.
    """
    check_places(settings, node)
    with ExitStack() as stack:
        folder = stack.enter_context(closing(DataFolder(Layout(settings.data_dir))))
        public = stack.enter_context(reserve(settings.host, settings.port)) if node.workers else None
        private = stack.enter_context(reserve(settings.console_host, settings.console_port, "--console-port"))
        if node.workers or node.loaders:
            ensure_log(settings)
        if node.loaders:
            check_not_moving(open_lake(settings))
        greet = prepare()
        metrics = stack.enter_context(closing(MetricFile(make_metric_folder(settings) / "supervisor-0")))
        log = open_log(settings, "supervisor")
        public_address = public.getsockname()[:2] if public else ("", 0)
        posts = _posts(node, public_address, private.getsockname()[:2])
        supervisor = Supervisor(settings, posts, metrics=metrics, log=log)
        stack.callback(supervisor.close)
        supervisor.start()
        address = address_url(settings.host, public_address[1]) if public else ""
        private_url = address_url(settings.console_host, private.getsockname()[1])
        console_url = private_url if node.console else ""
        folder.announce(ServerCard(os.getpid(), address, console_url, node.workers, private_url))
        sys.stdout.write(greet(address, private_url))
        sys.stdout.flush()
        supervisor.run()
        log.info("stopping")
        supervisor.stop()
        log.info("stopped")


def _posts(node: Node, public: tuple[str, int], private: tuple[str, int]) -> list[Post]:
    posts = [Post("worker", number, public) for number in range(node.workers)]
    posts += [Post("loader", number, ("", 0)) for number in range(node.loaders)]
    return [*posts, Post("console" if node.console else "status", 0, private)]


def check_places(settings: Settings, node: Node) -> None:
    """Raises `BadSetting` where the parts of the node would work on something that no other node can reach."""
    if node.command in {"ingest", "load"} and not settings.log:
        raise BadSetting(
            f"'kixo {node.command}' needs a log that other machines reach, and KIXO_LOG is not set.",
            "Set it, or run everything on this machine with 'kixo serve'.",
        )
    if node.command == "console" and not settings.lake:
        raise BadSetting(
            "'kixo console' needs tables that other machines reach, and KIXO_LAKE is not set.",
            "Set it, or run everything on this machine with 'kixo serve'.",
        )
    if node.loaders > 1 and not settings.log:
        raise BadSetting(f"loaders is {node.loaders}, and a log in the data folder has one.", "Set KIXO_LOG, or 1.")
