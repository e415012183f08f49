"""Pages made from templates, and how one page hands over to the next."""

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from kixo import __version__
from kixo.console import figures
from kixo.console.assets import Assets
from kixo.console.context import console_of, session_of
from kixo.console.navigation import PAGES, Chosen, choose, current_page
from kixo.console.sessions import end_flash, read_flash, write_flash
from kixo.event import ENVIRONMENTS, PROJECT_ID_LENGTH_MAX
from kixo.registry.schema import NAME_LENGTH_MAX


def open_templates(assets: Assets) -> Environment:
    """The templates of the package; whatever they show is escaped, and a name they do not get is an error."""
    environment = Environment(
        loader=PackageLoader("kixo.console"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(
        asset=assets.path,
        assets=assets.by_name,
        environments=ENVIRONMENTS,
        name_length_max=NAME_LENGTH_MAX,
        project_id_length_max=PROJECT_ID_LENGTH_MAX,
        version=__version__,
    )
    environment.filters.update(
        number=figures.number,
        measure=figures.measure,
        size=figures.size,
        instant=figures.instant,
        ago=figures.ago,
        duration=figures.duration,
    )
    return environment


def render(
    request: Request, template: str, chosen: Chosen | None = None, *, status: int = 200, **data: object
) -> Response:
    """A whole page. Templates have `data`, and what `layout.html` needs: `page`, `chosen`, `link`, `csrf`, `nonce`."""
    session = session_of(request)
    found = chosen or choose(request)
    messages = read_flash(request.state.secret, request)
    text = fragment(
        request,
        template,
        found,
        page=current_page(request),
        pages=PAGES,
        path=request.url.path,
        csrf=session.csrf if session else "",
        messages=messages,
        **data,
    )
    response = HTMLResponse(text, status)
    if messages:
        end_flash(request.state.secret, response)
    return response


def fragment(request: Request, template: str, chosen: Chosen, **data: object) -> str:
    """The text of a template that is not a page of its own, as for a part that htmx puts into one."""
    console = console_of(request)
    return console.templates.get_template(template).render(
        chosen=chosen, link=chosen.link, nonce=request.state.nonce, now_us=console.now_us(), **data
    )


def see_other(request: Request, address: str, *messages: str) -> Response:
    """The answer to a form that was done: go to that page, which shows the messages."""
    response = RedirectResponse(address, 303)
    if messages:
        write_flash(request.state.secret, request, response, list(messages))
    return response
