from pathlib import Path

import pytest

from kixo.lake.local import LocalLake
from kixo.lake.store import LakeStore
from tests.contract.lake_contract import LakeContract


class TestLocalLake(LakeContract):
    @pytest.fixture
    def lake(self, tmp_path: Path) -> LakeStore:
        return LocalLake(tmp_path / "lake", has_many_writers=True)
