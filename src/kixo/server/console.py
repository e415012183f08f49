"""The console process: serves the private port."""

import asyncio
import os
from contextlib import AsyncExitStack, closing

from granian.constants import HTTPModes, Interfaces
from granian.server.embed import Server

from kixo.console.application import build_application
from kixo.console.assets import open_assets
from kixo.console.context import Console
from kixo.console.feed.backlog import Sources
from kixo.console.feed.follower import Follower
from kixo.console.feed.refusals import open_refusals
from kixo.console.kept_registry import KeptRegistry
from kixo.console.loaded import open_loads
from kixo.console.rendering import open_templates
from kixo.console.samples import History
from kixo.console.traffic import Traffic
from kixo.console.watching import watch
from kixo.lake.opening import open_lake
from kixo.layout import Layout
from kixo.limits.looking import open_look
from kixo.log.opening import open_preview
from kixo.query.pool import QueryPool, pool_bounds
from kixo.registry import open_registry
from kixo.server.child import Assignment, metric_folder, run_child
from kixo.server.listening import listen
from kixo.server.logs import open_log
from kixo.settings import Settings
from kixo.timestamp import now_us

# A person waits for the page, and can load it again.
REGISTRY_WAIT_S = 1.0


def main() -> None:
    """Runs the private port until told to stop."""
    run_child(lambda assignment: asyncio.run(_work(assignment)))


async def _work(assignment: Assignment) -> None:
    settings, assets, layout = assignment.settings, open_assets(), Layout(assignment.settings.data_dir)
    log = open_log(settings, assignment.place)
    async with AsyncExitStack() as stack:
        registry = stack.enter_context(closing(KeptRegistry(lambda: open_registry(settings, wait_s=REGISTRY_WAIT_S))))
        pool = QueryPool(open_lake(settings), pool_bounds(settings), log)
        stack.push_async_callback(pool.close)
        sources = _sources(settings)
        feed = Follower(sources, settings.live_watchers_max, log)

        def end_waits() -> None:
            feed.close()
            pool.stop()

        console = Console(
            settings=settings,
            layout=layout,
            metric_folder=metric_folder(settings),
            registry=registry,
            now_us=now_us,
            log=log,
            assets=assets,
            templates=open_templates(assets),
            pool=pool,
            sources=sources,
            feed=feed,
            history=History(),
            traffic=Traffic(open_look(settings)),
        )
        server = Server(
            build_application(console),
            assignment.host,
            assignment.port,
            interface=Interfaces.ASGINL,
            http=HTTPModes.http1,
            websockets=False,
            log_enabled=False,
        )
        watching = asyncio.create_task(watch(console, os.getppid()))
        stack.callback(watching.cancel)
        await listen(server, assignment, on_stop=end_waits)


def _sources(settings: Settings) -> Sources:
    """Where the live page reads what arrives."""
    layout = Layout(settings.data_dir)
    return Sources(lambda: open_preview(settings), open_loads(settings), lambda: open_refusals(layout.refused))


if __name__ == "__main__":
    main()
