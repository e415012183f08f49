from pathlib import Path

import pytest

from kixo.settings import Settings
from tests.contract.log_contract import LogContract


class TestLocalLog(LogContract):
    durability = "fsync"

    @pytest.fixture
    def settings(self, tmp_path: Path) -> Settings:
        return Settings(data_dir=tmp_path / "data", log_free_bytes_min=0)
