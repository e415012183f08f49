"""The one table of settings: every name, its default, its unit and a sentence.

From this table come the flags of `kixo serve`, the `KIXO_…` environment variables, the keys of `kixo.toml` and the
page in the docs. A value is looked up in that order: flag, environment, file, default.
"""

import dataclasses
import difflib
import os
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kixo.errors import BadSetting
from kixo.places import lake_place, limits_place, log_place, registry_place, secret_variables

MIB = 1024 * 1024
ENVIRONMENT_PREFIX = "KIXO_"
# What commands and scripts that talk to a server read, and no setting of one.
OTHER_VARIABLES = ("KIXO_API_KEY", "KIXO_PROJECT_ID", "KIXO_TOKEN", "KIXO_URL")
URL = re.compile(r"(https?://([A-Za-z0-9_.-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?)?")
NAMES = re.compile(r"[A-Za-z0-9_.-]*( *, *[A-Za-z0-9_.-]+)*")
PLACES: Mapping[str, Callable[[str, str], object]] = {
    "log": log_place,
    "lake": lake_place,
    "registry": registry_place,
    "limits": limits_place,
}
CHOICES = {
    "log_format": ("auto", "json", "console"),
    "log_level": ("debug", "info", "warning", "error"),
    "kafka_sasl_mechanism": ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"),
}


def setting(default: object, unit: str, sentence: str, low: float | None = None, high: float | None = None) -> Any:
    """A row of the table: default, unit, what it does, and the least and greatest value allowed."""
    return field(default=default, metadata={"unit": unit, "sentence": sentence, "low": low, "high": high})


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Every setting of the server, with its value."""

    # Where things are.
    data_dir: Path = setting(Path("kixo-data"), "folder", "Where the log, the tables and the registry are kept.")
    host: str = setting("127.0.0.1", "address", "The address of the public port.")
    port: int = setting(8000, "port", "The public port, which takes events; 0 picks a free one.", 0, 65535)
    console_host: str = setting("127.0.0.1", "address", "The address of the private port.")
    console_port: int = setting(
        8001, "port", "The private port, with the console and metrics; 0 picks a free one.", 0, 65535
    )
    public_url: str = setting("", "URL", "Where clients reach the public port, if not at its address: a proxy's URL.")
    console_url: str = setting("", "URL", "Where browsers reach the console, if not at its address: a proxy's URL.")
    console_names: str = setting(
        "", "names", "Further names under which the private port is reached, separated by commas."
    )
    workers: int = setting(0, "processes", "Processes that take events; 0 means one for every two cores.", 0, 256)
    loaders: int = setting(
        1, "processes", "Processes that fill the tables; more than one only where the log is Kafka's.", 1, 256
    )
    log_format: str = setting("auto", "auto, json or console", "How log lines look; auto is json off a terminal.")
    log_level: str = setting("info", "debug, info, warning or error", "The least severe log line that is written.")

    # What may be elsewhere than in the data folder; docs/scale.md says when and how.
    log: str = setting("", "URL of the log", "Where the log is: kafka://h1:9092,h2:9092/topic; empty: in data_dir.")
    lake: str = setting("", "URL of the lake", "Where the tables are: s3://bucket/prefix, a path; empty: in data_dir.")
    registry: str = setting(
        "",
        "URL of the registry",
        "Where projects and keys are: postgresql://user@host:5432/database; empty: in data_dir.",
    )
    limits: str = setting(
        "", "URL of the limits", "Where requests are counted: redis://host:6379/0; empty: in data_dir."
    )
    log_partitions: int = setting(
        12, "partitions", "Partitions of the topic, by which projects are divided; never changed later.", 1, 10_000
    )
    log_copies: int = setting(
        0, "replicas", "Copies of the topic when it is made; 0: three, or as many as there are brokers.", 0, 100
    )
    log_retention_s: float = setting(
        604_800.0,
        "seconds",
        "How long the topic keeps a batch, when it is made; loaders away for longer lose events.",
        60,
        31_536_000,
    )
    log_delivery_s: float = setting(
        5.0, "seconds", "How long Kafka may take to acknowledge a batch; beyond, the answer is 503.", 0.5, 120
    )
    kafka_sasl_mechanism: str = setting(
        "SCRAM-SHA-512", "PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512", "How KIXO_LOG_USER proves to Kafka who it is."
    )
    kafka_ca_file: str = setting(
        "", "file", "Whose signature on Kafka's certificates is trusted, as PEM; empty: the system's."
    )
    s3_endpoint: str = setting(
        "", "URL", "Where S3 is, if not at Amazon: https://s3.example.com. AWS_ENDPOINT_URL, if empty."
    )
    s3_region: str = setting("", "region", "The region of the bucket; AWS_REGION, if empty.")
    limits_ca_file: str = setting(
        "", "file", "Whose signature on Redis's certificate is trusted, as PEM; empty: the system's."
    )

    # What a request may cost.
    body_bytes_max: int = setting(10 * MIB, "bytes", "The largest body, on the wire and inflated.", 1024, 1024 * MIB)
    body_stall_s: float = setting(
        10.0, "seconds", "How long a body may stand still before the answer is 408.", 0.1, 600
    )
    body_total_s: float = setting(120.0, "seconds", "How long a whole body may take before the answer is 408.", 1, 3600)
    head_read_s: float = setting(15.0, "seconds", "How long the head of a request may take.", 0.1, 600)
    drain_bytes_max: int = setting(
        64 * MIB,
        "bytes",
        "How much of a refused body is read on, so that its sender sees the answer.",
        0,
        1024 * MIB,
    )
    inflight_bytes_max: int = setting(
        256 * MIB,
        "bytes",
        "Bodies a worker holds at one time; beyond, the answer is 503.",
        MIB,
        64 * 1024 * MIB,
    )
    connections_max: int = setting(10_000, "connections", "Connections a worker holds at one time.", 1, 1_000_000)
    events_per_batch_max: int = setting(1000, "events", "Events in one batch.", 1, 65_535)
    requests_per_second_max: int = setting(
        100, "requests", "Requests of one project in any rolling second.", 1, 100_000
    )
    projects_max: int = setting(65_536, "projects", "Projects the registry may hold.", 1, 10_000_000)
    clock_tolerance_s: float = setting(
        60.0, "seconds", "A transit delay up to this is not taken for a slow device clock.", 0, 86_400
    )

    # The log.
    log_segment_bytes: int = setting(128 * MIB, "bytes", "Size at which a log segment is closed.", 1024, 4096 * MIB)
    log_free_bytes_min: int = setting(
        512 * MIB, "bytes", "Free disk space below which events are refused with 503.", 0, None
    )
    log_queue_bytes_max: int = setting(
        128 * MIB,
        "bytes",
        "Frames of a worker that wait for the disk; beyond, the answer is 503.",
        MIB,
        4096 * MIB,
    )
    registry_poll_s: float = setting(0.5, "seconds", "How often workers look for changed projects and keys.", 0.05, 1.5)

    # The loader and the lake.
    load_interval_s: float = setting(0.25, "seconds", "The least time between two table commits.", 0, 60)
    load_events_max: int = setting(200_000, "events", "Events in one table commit.", 1, 2_000_000)
    load_bytes_max: int = setting(64 * MIB, "bytes", "Bytes of log in one table commit.", MIB, 1024 * MIB)
    compaction_files_min: int = setting(32, "files", "Small files of one day that are merged into one.", 2, 10_000)
    compaction_bytes: int = setting(
        128 * MIB, "bytes", "Size from which a table file is left as it is.", MIB, 4096 * MIB
    )
    checkpoint_commits: int = setting(100, "commits", "Commits between two checkpoints of a table.", 1, 10_000)
    file_grace_s: float = setting(
        600.0,
        "seconds",
        "How long a file that was merged away stays for queries still reading it.",
        0,
        86_400,
    )
    date_horizon_days: int = setting(
        400, "days", "Events older than this when they arrive share one partition, 1970-01-01.", 1, 36_500
    )
    identity_filter_bytes_max: int = setting(
        1024 * MIB,
        "bytes",
        "Memory for the filter that finds copies; a full one costs time, not truth.",
        MIB,
        None,
    )

    # Queries.
    query_memory_bytes_max: int = setting(1024 * MIB, "bytes", "Memory of one query.", 64 * MIB, None)
    query_s_max: float = setting(60.0, "seconds", "Time of one query.", 0.1, 86_400)
    queries_running_max: int = setting(3, "queries", "Queries of the private port that run at one time.", 1, 256)
    queries_waiting_max: int = setting(
        32, "queries", "Queries of the private port that wait for their turn; beyond, one is refused.", 0, 10_000
    )
    query_rows_max: int = setting(
        10_000, "rows", "Rows of a query's answer on the private port; what is more is cut off.", 1, 1_000_000
    )
    query_answer_bytes_max: int = setting(
        8 * MIB, "bytes", "Size of a query's answer on the private port; what is more is cut off.", 1024, 256 * MIB
    )
    after_s_max: float = setting(
        10.0, "seconds", "How long a read waits until what `after` names is in the tables.", 0, 600
    )
    query_idle_s: float = setting(
        300.0, "seconds", "How long a process of the private port that ran a query waits for the next.", 0, 86_400
    )

    # The console.
    login_token_s: float = setting(900.0, "seconds", "How long a login link of the console can be used.", 10, 86_400)
    session_s: float = setting(604_800.0, "seconds", "How long a session of the console lasts.", 60, 31_536_000)
    live_watchers_max: int = setting(16, "pages", "Pages that may follow events as they arrive.", 1, 1000)

    # The life of the processes.
    stop_s_max: float = setting(10.0, "seconds", "How long a graceful stop may take.", 0.5, 600)


def setting_fields() -> tuple[dataclasses.Field[Any], ...]:
    """The rows of the table, in order."""
    return dataclasses.fields(Settings)


def worker_count(settings: Settings) -> int:
    """How many workers there are: as set, or one for every two cores."""
    return settings.workers or max(1, (os.cpu_count() or 1) // 2)


def resolve(flags: Mapping[str, object], environment: Mapping[str, str], file: Mapping[str, object]) -> Settings:
    """The settings that flags, environment and file give together; raises `BadSetting`."""
    names = {row.name for row in setting_fields()}
    for name in file:
        if name not in names:
            raise BadSetting(f"kixo.toml has an unknown setting {name!r}.", _suggestion(name, names))
    values: dict[str, Any] = {}
    for row in setting_fields():
        variable = ENVIRONMENT_PREFIX + row.name.upper()
        if flags.get(row.name) is not None:
            values[row.name] = _convert(row, flags[row.name], "--" + row.name.replace("_", "-"))
        elif variable in environment:
            values[row.name] = _convert(row, environment[variable], variable)
        elif row.name in file:
            values[row.name] = _convert(row, file[row.name], f"kixo.toml: {row.name}")
    return Settings(**values)


def unknown_variables(environment: Mapping[str, str]) -> list[str]:
    """A sentence for each variable that looks like a setting and is none."""
    secrets = {variable.removeprefix(ENVIRONMENT_PREFIX).lower() for variable in secret_variables()}
    names = {row.name for row in setting_fields()} | secrets
    return [
        f"The variable {variable} is no setting. {_suggestion(name, names, ENVIRONMENT_PREFIX)}"
        for variable in sorted(environment)
        if variable.startswith(ENVIRONMENT_PREFIX) and variable not in OTHER_VARIABLES
        if (name := variable.removeprefix(ENVIRONMENT_PREFIX).lower()) not in names or not variable.isupper()
    ]


def read_file(path: Path, *, required: bool) -> dict[str, object]:
    """The settings in a TOML file; `{}` where it is absent and not required. Raises `BadSetting`."""
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        if required:
            raise BadSetting(f"There is no settings file {path}.", "Correct --config or leave it out.") from None
        return {}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise BadSetting(f"The settings file {path} cannot be read: {error}.", "Mend it or move it away.") from error


def _suggestion(name: str, names: set[str], prefix: str = "") -> str:
    close = difflib.get_close_matches(name, names, 1)
    meant = prefix + close[0].upper() if close and prefix else "".join(close)
    return f"Did you mean {meant!r}?" if close else "docs/operating.md lists every setting."


def _convert(row: dataclasses.Field[Any], value: object, source: str) -> object:
    kind: type = type(row.default)
    wrong = BadSetting(
        f"{source} is {value!r}, which is not {_kind_name(kind)} ({row.metadata['unit']}).",
        f"Set it to a value such as {row.default}.",
    )
    if isinstance(value, bool) or not isinstance(value, str | int | float | Path):
        raise wrong
    try:
        converted = kind(value)
    except (ValueError, TypeError, OverflowError):
        raise wrong from None
    if kind is int and isinstance(value, float) and value != converted:
        raise wrong
    _check_range(row, converted, source)
    return converted


def _kind_name(kind: type) -> str:
    return {int: "a whole number", float: "a number", Path: "a path"}.get(kind, "a text")


def _check_range(row: dataclasses.Field[Any], value: object, source: str) -> None:
    if row.name in PLACES:
        PLACES[row.name](str(value), source)
    if row.name in CHOICES and value not in CHOICES[row.name]:
        raise BadSetting(f"{source} is {value!r}.", f"It can be {row.metadata['unit']}.")
    if row.metadata["unit"] == "URL" and not URL.fullmatch(str(value)):
        raise BadSetting(f"{source} is {value!r}.", "It has to be like https://kixo.example.com, without a path.")
    if row.metadata["unit"] == "names" and not NAMES.fullmatch(str(value)):
        raise BadSetting(f"{source} is {value!r}.", "It has to be like kixo.example.com, without scheme, port or path.")
    low, high = row.metadata["low"], row.metadata["high"]
    if not isinstance(value, int | float):
        return
    # Written so that a NaN, for which every comparison is false, is refused too.
    if not ((low is None or value >= low) and (high is None or value <= high)):
        between = f"between {low} and {high}" if high is not None else f"at least {low}"
        raise BadSetting(f"{source} is {value} {row.metadata['unit']}.", f"It has to be {between}.")
