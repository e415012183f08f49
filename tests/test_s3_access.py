from pathlib import Path

import pytest

from kixo.errors import BadSetting
from kixo.lake.opening import open_lake
from kixo.lake.s3_access import s3_access
from kixo.settings import Settings

FILE = """
[default]
aws_access_key_id = one
aws_secret_access_key = secret%one
[other]
aws_access_key_id = two
aws_secret_access_key = secret-two
aws_session_token = token
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / ".aws" / "credentials"
    path.parent.mkdir()
    path.write_text(FILE)
    return path


def test_settings_come_before_variables() -> None:
    variables = {"AWS_ENDPOINT_URL": "http://variable:1", "AWS_REGION": "region-1"}
    assert s3_access(Settings(), variables).client_options() == {
        "aws_region": "region-1",
        "aws_endpoint": "http://variable:1",
    }
    settings = Settings(s3_endpoint="https://setting:2", s3_region="region-2")
    assert s3_access(settings, variables).delta_options() == {
        "aws_region": "region-2",
        "aws_endpoint": "https://setting:2",
    }


def test_only_an_endpoint_that_says_so_is_reached_without_tls() -> None:
    assert s3_access(Settings(), {"AWS_ENDPOINT_URL": "http://a:1"}).is_plain
    assert not s3_access(Settings(), {"AWS_ENDPOINT_URL": "https://a:1"}).is_plain
    assert not s3_access(Settings(), {}).is_plain


def test_a_profile_of_the_file_is_read(tmp_path: Path, file: Path) -> None:
    home = {"HOME": str(tmp_path)}
    assert s3_access(Settings(), home).credentials == {
        "aws_access_key_id": "one",
        "aws_secret_access_key": "secret%one",
    }
    elsewhere = {"AWS_SHARED_CREDENTIALS_FILE": str(file), "AWS_PROFILE": "other"}
    assert s3_access(Settings(), elsewhere).credentials["aws_session_token"] == "token"


@pytest.mark.parametrize("variable", ["AWS_ACCESS_KEY_ID", "AWS_WEB_IDENTITY_TOKEN_FILE"])
def test_a_file_is_not_looked_at_where_variables_say_who_we_are(tmp_path: Path, file: Path, variable: str) -> None:
    assert s3_access(Settings(), {"HOME": str(tmp_path), variable: "x"}).credentials == {}


def test_without_any_credentials_the_role_of_the_machine_is_asked(tmp_path: Path) -> None:
    assert s3_access(Settings(), {"HOME": str(tmp_path)}).credentials == {}


def test_a_file_that_is_named_has_to_be_there(tmp_path: Path) -> None:
    with pytest.raises(BadSetting, match="not there"):
        s3_access(Settings(), {"AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "none")})


def test_a_profile_that_is_named_has_to_be_there(file: Path) -> None:
    with pytest.raises(BadSetting, match="no profile 'none'"):
        s3_access(Settings(), {"AWS_SHARED_CREDENTIALS_FILE": str(file), "AWS_PROFILE": "none"})


def test_a_broken_file_is_not_repeated_in_the_error(file: Path) -> None:
    file.write_text("secret-in-the-wrong-place")
    with pytest.raises(BadSetting) as caught:
        s3_access(Settings(), {"AWS_SHARED_CREDENTIALS_FILE": str(file)})
    assert "wrong-place" not in str(caught.value)


def test_credentials_do_not_show_where_the_access_is_printed(file: Path) -> None:
    assert "secret" not in repr(s3_access(Settings(), {"AWS_SHARED_CREDENTIALS_FILE": str(file)}))


def test_a_server_that_is_away_is_an_error_of_the_system_without_credentials(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "kixo")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "very-secret")
    monkeypatch.setattr("kixo.lake.objects.RETRIES_MAX", 0)
    lake = open_lake(Settings(lake="s3://bucket/prefix", s3_endpoint="http://127.0.0.1:1"))
    with pytest.raises(OSError, match="s3://bucket/prefix") as caught:
        lake.read("x")
    assert "very-secret" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_lake_is_a_folder_unless_the_settings_say_s3(tmp_path: Path) -> None:
    assert open_lake(Settings(data_dir=tmp_path)).url == str(tmp_path / "lake")
    assert open_lake(Settings(lake=f"file://{tmp_path}/elsewhere")).url == f"{tmp_path}/elsewhere"
    assert open_lake(Settings(lake="s3://bucket/a/b")).url == "s3://bucket/a/b"


def test_only_the_lake_of_a_local_log_has_one_writer(tmp_path: Path) -> None:
    assert not open_lake(Settings(data_dir=tmp_path)).has_many_writers
    assert open_lake(Settings(data_dir=tmp_path, log="kafka://host/topic")).has_many_writers
    assert open_lake(Settings(lake="s3://bucket/a")).has_many_writers
