"""How S3 is reached: endpoint and region by the settings, credentials by what all programs for S3 read.

Credentials come from the variables `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY` (and `AWS_SESSION_TOKEN`), from a
role (`AWS_WEB_IDENTITY_TOKEN_FILE`, containers, machines), which the library asks for itself and renews, or from the
profile `AWS_PROFILE` of the file `AWS_SHARED_CREDENTIALS_FILE`, by default `~/.aws/credentials`. They are read when a
lake is opened, and go nowhere but to the library.
"""

import configparser
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kixo.errors import BadSetting
from kixo.settings import Settings

ROLES = ("AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_CREDENTIALS_FULL_URI")
IN_FILES = ("aws_access_key_id", "aws_secret_access_key", "aws_session_token")
DEFAULT_REGION = "us-east-1"


@dataclass(frozen=True)
class S3Access:
    """Endpoint (empty: Amazon's own), region, and credentials read from a file, by the names they have there."""

    endpoint: str
    region: str
    credentials: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def is_plain(self) -> bool:
        """Whether it is reached without TLS."""
        return self.endpoint.startswith("http://")

    def client_options(self) -> Any:
        """What the client takes."""
        return {"aws_region": self.region, **self._endpoint("aws_endpoint"), **self.credentials}

    def delta_options(self) -> dict[str, str]:
        """What the Delta library takes."""
        plain = {"aws_allow_http": "true"} if self.is_plain else {}
        return {"aws_region": self.region, **self._endpoint("aws_endpoint"), **plain, **self.credentials}

    def _endpoint(self, name: str) -> dict[str, str]:
        return {name: self.endpoint} if self.endpoint else {}


def s3_access(settings: Settings, environment: Mapping[str, str] | None = None) -> S3Access:
    """How the settings and the environment say that S3 is reached. Raises `BadSetting`."""
    variables = os.environ if environment is None else environment
    endpoint = settings.s3_endpoint or variables.get("AWS_ENDPOINT_URL_S3") or variables.get("AWS_ENDPOINT_URL") or ""
    region = settings.s3_region or variables.get("AWS_REGION") or variables.get("AWS_DEFAULT_REGION") or DEFAULT_REGION
    known = variables.get("AWS_ACCESS_KEY_ID") or any(variables.get(name) for name in ROLES)
    return S3Access(endpoint, region, {} if known else _from_file(variables))


def _from_file(variables: Mapping[str, str]) -> dict[str, str]:
    """The credentials of a profile; none where there is no file, so that a machine's role is asked."""
    named = variables.get("AWS_SHARED_CREDENTIALS_FILE")
    path = Path(named) if named else Path(variables.get("HOME", "/"), ".aws", "credentials")
    profile = variables.get("AWS_PROFILE", "default")
    parser = configparser.ConfigParser(interpolation=None)
    try:
        text = path.read_text("utf-8")
        parser.read_string(text)
    except FileNotFoundError:
        if named:
            raise BadSetting(f"AWS_SHARED_CREDENTIALS_FILE names {path}, which is not there.", "Correct it.") from None
        return {}
    except (OSError, UnicodeDecodeError, configparser.Error):
        # What is wrong with it may be a secret.
        raise BadSetting(f"The file of credentials {path} cannot be read.", "Mend it, or its permissions.") from None
    if profile not in parser:
        if "AWS_PROFILE" in variables:
            raise BadSetting(f"The file of credentials {path} has no profile {profile!r}.", "Correct AWS_PROFILE.")
        return {}
    return {name: parser[profile][name] for name in IN_FILES if name in parser[profile]}
