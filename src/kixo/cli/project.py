"""`kixo project`: with `--json`, a project has the members `id`, `name` and `created_at`."""

from typing import Annotated

from cyclopts import Parameter

from kixo.cli.options import Json, takes_settings
from kixo.output import print_json, print_table
from kixo.registry import open_registry
from kixo.registry.tables import Project
from kixo.settings import Settings
from kixo.timestamp import format_us


@takes_settings()
def create(
    settings: Settings,
    *,
    name: Annotated[str, Parameter(help="What people call it.")] = "",
    id: Annotated[str | None, Parameter(help="An id it has already; without it, a new one is made.")] = None,
    json: Json = False,
) -> None:
    """Makes a project, and the registry if there is none."""
    with open_registry(settings, make=True) as registry:
        project = registry.create_project(name, id)
    _print([project], json)


@takes_settings()
def show(settings: Settings, *, json: Json = False) -> None:
    """Lists all projects, oldest first."""
    with open_registry(settings, migrate=False) as registry:
        projects = registry.list_projects()
    _print(projects, json)


def record(project: Project) -> dict[str, object]:
    """A project as scripts see it."""
    return {"id": project.id, "name": project.name, "created_at": format_us(project.created_at_us)}


def _print(projects: list[Project], json: bool) -> None:
    records = [record(project) for project in projects]
    if not json:
        print_table(("project", "name", "created"), [list(found.values()) for found in records])
        return
    for found in records:
        print_json(found)
