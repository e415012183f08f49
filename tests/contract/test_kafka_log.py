import pytest

from kixo.settings import Settings
from tests.contract.log_contract import LogContract
from tests.services import Kafka

PARTITIONS = 4


class TestKafkaLog(LogContract):
    durability = "replicated"

    @pytest.fixture
    def settings(self, kafka: Kafka) -> Settings:
        return Settings(log=kafka.url(kafka.topic()), log_partitions=PARTITIONS)
