"""What a client is made with, checked at once: a mistake in the program shows where it was made."""

import os
from typing import TYPE_CHECKING

from kixo.errors import BadOption
from kixo.event import BUNDLE_ID_LENGTH_MAX, ENVIRONMENTS, PLATFORMS

if TYPE_CHECKING:
    from pathlib import Path

PATH = "/v1/batch"


def checked_envelope(project_id: str, api_key: str, bundle_id: str, platform: str, environment: str) -> dict[str, str]:
    """What every request says besides its events; raises `BadOption`."""
    _check_text("project_id", project_id, "kx_proj_…")
    _check_text("api_key", api_key, "kx_key_…")
    _check_text("bundle_id", bundle_id, "com.example.shop")
    if project_id.startswith("kx_key_"):
        raise BadOption("`project_id` is an API key. The project comes first, then the key.")
    if len(bundle_id) > BUNDLE_ID_LENGTH_MAX:
        raise BadOption(f"`bundle_id` has {len(bundle_id)} characters, {BUNDLE_ID_LENGTH_MAX} are allowed.")
    _check_choice("platform", platform, PLATFORMS)
    _check_choice("environment", environment, ENVIRONMENTS)
    return {
        "project_id": project_id,
        "api_key": api_key,
        "bundle_id": bundle_id,
        "platform": platform,
        "environment": environment,
    }


def batch_url(host: str) -> str:
    """The address that batches go to; raises `BadOption`."""
    from urllib.parse import urlsplit

    _check_text("host", host, "https://api.kixo.io")
    try:
        url = urlsplit(host)
        usable = url.scheme in {"http", "https"} and url.hostname and url.port != 0
    except ValueError:
        usable = False
    if not usable or url.query or url.fragment or url.username is not None:
        raise BadOption(
            f"`host` is {host!r:.200}. Give an address such as https://api.kixo.io or http://127.0.0.1:8000."
        )
    return host.rstrip("/") + PATH


def checked_folder(path: "str | Path") -> "Path":
    """The spool's folder, made if need be; raises `BadOption` where nothing can be kept there."""
    from pathlib import Path

    if path == "":
        raise BadOption("`spool` is empty, which would be the working folder. Give a folder's path, or leave it out.")
    folder = Path(path).absolute()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadOption(f"`spool` is {str(path)!r}, which is no folder and cannot become one: {error}.") from None
    if not os.access(folder, os.W_OK | os.X_OK):
        raise BadOption(f"`spool` is {str(path)!r}, a folder that this process may not write to.")
    return folder


def own_folder(folder: "Path", envelope: dict[str, str]) -> "Path":
    """The folder, made if need be, for events of this project, app and environment in a spool that others share.

    Rows hold events alone: what one client left must not be sent as another's. The key is none of it, so that events
    outlive its exchange.
    """
    from hashlib import blake2b

    members = [envelope[name] for name in ("project_id", "environment", "platform", "bundle_id")]
    own = folder / blake2b("\0".join(members).encode(), digest_size=8).hexdigest()
    own.mkdir(exist_ok=True)
    return own


def _check_text(name: str, value: object, example: str) -> None:
    if not isinstance(value, str) or not value:
        shown = "empty" if value == "" else f"of type {type(value).__name__}"
        raise BadOption(f"`{name}` is {shown}. Give a text such as {example}.")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise BadOption(f"`{name}` holds half a character, which cannot be sent.") from None


def _check_choice(name: str, value: object, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise BadOption(f"`{name}` is {value!r:.100}. It can be {', '.join(choices)}.")
