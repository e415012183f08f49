import pytest

from kixo.lake.opening import open_lake
from kixo.lake.store import LakeStore
from kixo.settings import Settings
from tests.contract.lake_contract import LakeContract
from tests.services import S3


class TestS3Lake(LakeContract):
    @pytest.fixture
    def lake(self, s3: S3, monkeypatch: pytest.MonkeyPatch) -> LakeStore:
        for name, value in s3.variables.items():
            monkeypatch.setenv(name, value)
        return open_lake(Settings(lake=s3.url()))
