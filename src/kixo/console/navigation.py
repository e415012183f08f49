"""The pages that there are, and which project and environment a page is about."""

from collections.abc import Sequence
from importlib import import_module
from typing import NamedTuple
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.routing import BaseRoute

from kixo.console.context import console_of
from kixo.errors import NotFound
from kixo.event import ENVIRONMENTS
from kixo.registry.tables import Project

PROJECTS_SHOWN_MAX = 200


class Page(NamedTuple):
    """A page: where it is, what it is called, and the module whose `routes()` answer there."""

    path: str
    title: str
    module: str


# In the order of the menu; the console opens with the first one.
PAGES: tuple[Page, ...] = (
    # Where a newcomer begins.
    Page("/start", "Start", "kixo.console.pages.start"),
    # What arrives, as it arrives.
    Page("/live", "Live", "kixo.console.pages.live"),
    # What has arrived, over time.
    Page("/overview", "Overview", "kixo.console.pages.overview"),
    # Any other question.
    Page("/explore", "Explore", "kixo.console.pages.explore"),
    # What was not taken, and why.
    Page("/rejected", "Rejected", "kixo.console.pages.rejected"),
    # Who may send and read.
    Page("/projects", "Projects and keys", "kixo.console.pages.projects"),
    # How the server is doing.
    Page("/health", "Health", "kixo.console.pages.health"),
)


class Chosen(NamedTuple):
    """What a page is about. `projects` are those to choose from, at most so many; `project` is None without any."""

    project: Project | None
    environment: str
    projects: Sequence[Project]

    def link(self, path: str, **query: object) -> str:
        """The address of a page about the same project and environment, with more in its query; None is left out."""
        members = {"project": self.project.id if self.project else None, "environment": self.environment, **query}
        given = {name: value for name, value in members.items() if value is not None}
        return f"{path}?{urlencode(given)}" if given else path


def page_routes() -> list[BaseRoute]:
    """The routes of every page."""
    return [route for page in PAGES for route in import_module(page.module).routes()]


def current_page(request: Request) -> Page | None:
    """The page that a path belongs to."""
    path = request.url.path
    return next((page for page in PAGES if path == page.path or path.startswith(page.path + "/")), None)


def choose(request: Request) -> Chosen:
    """What the request's query chooses: else the first project, and production. Raises `NotFound`."""
    registry = console_of(request).registry()
    projects = registry.list_projects(PROJECTS_SHOWN_MAX)
    wanted, environment = (
        request.query_params.get("project"),
        request.query_params.get("environment") or ENVIRONMENTS[0],
    )
    project = registry.find_project(wanted) if wanted else next(iter(projects), None)
    if wanted and project is None:
        raise NotFound("There is no such project.")
    if environment not in ENVIRONMENTS:
        raise NotFound(f"There is no such environment; there are {', '.join(ENVIRONMENTS)}.")
    if project is not None and project not in projects:
        projects = [project, *projects]
    return Chosen(project, environment, projects)
