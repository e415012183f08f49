"""Metrics as Prometheus reads them: the metric files of all processes, summed."""

from collections.abc import Iterator
from pathlib import Path

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from kixo.metric_file import read_totals, slots, width
from kixo.metrics import CATALOGUE
from kixo.metrics import Metric as Definition


class MetricFolder(Collector):
    """Reads the metric files of a folder at each scrape."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._slots = slots()

    def collect(self) -> Iterator[Metric]:
        """Every metric of the catalogue, summed over the files."""
        totals = read_totals(self._folder)
        for definition in CATALOGUE:
            yield self._family(definition, totals)

    def _family(self, definition: Definition, totals: list[float]) -> Metric:
        names = [name for name, _ in definition.labels]
        family: Metric = _FAMILIES[definition.kind](definition.name, definition.sentence, labels=_split_names(names))
        for labels in definition.series():
            slot = self._slots[definition.name, labels]
            values = totals[slot : slot + width(definition)]
            _add(family, definition, _split(names, labels), values)
        return family


_FAMILIES = {"counter": CounterMetricFamily, "gauge": GaugeMetricFamily, "histogram": HistogramMetricFamily}


def _split_names(names: list[str]) -> list[str]:
    """An `answer` such as `429 rate_limited` is shown as two labels: they only come in pairs."""
    return ["status", "code"] if names == ["answer"] else names


def _split(names: list[str], labels: tuple[str, ...]) -> list[str]:
    return labels[0].split(" ", 1) if names == ["answer"] else list(labels)


def _add(family: Metric, definition: Definition, labels: list[str], values: list[float]) -> None:
    if isinstance(family, HistogramMetricFamily):
        total = 0.0
        buckets = []
        for bound, count in zip([*map(str, definition.buckets_s), "+Inf"], values[:-1], strict=True):
            total += count
            buckets.append((bound, total))
        family.add_metric(labels, buckets, values[-1])
    elif isinstance(family, CounterMetricFamily | GaugeMetricFamily):
        family.add_metric(labels, values[0])


def exposition(folder: Path) -> bytes:
    """The text that `/metrics` answers with."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(MetricFolder(folder))
    return generate_latest(registry)
