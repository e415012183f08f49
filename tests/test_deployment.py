"""Dockerfile, Compose file and Kubernetes manifests name what there is: commands, settings, secrets and ports.

`make manifests` holds them to the schemas of those who read them. None of these tests runs them.
"""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from kixo.places import secret_variables
from kixo.settings import unknown_variables

ROOT = Path(__file__).parent.parent
DOCKERFILE = (ROOT / "Dockerfile").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "deploy" / "compose.yaml").read_text())
MANIFESTS = [
    document
    for path in sorted((ROOT / "deploy" / "kubernetes").glob("*.yaml"))
    for document in yaml.safe_load_all(path.read_text())
]
DEPLOYMENTS = [document for document in MANIFESTS if document["kind"] == "Deployment"]
PARTS = {"ingest", "load", "console"}
VARIABLE = re.compile(r"KIXO_[A-Z0-9_]+")


def container(deployment: dict[str, Any]) -> dict[str, Any]:
    (only,) = deployment["spec"]["template"]["spec"]["containers"]
    found: dict[str, Any] = only
    return found


def of_kind(kind: str) -> list[dict[str, Any]]:
    return [document for document in MANIFESTS if document["kind"] == kind]


@pytest.mark.parametrize(
    "path", ["Dockerfile", *sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("deploy/**/*.*"))]
)
def test_each_variable_of_ours_is_a_setting_or_a_secret(path: str) -> None:
    found = set(VARIABLE.findall((ROOT / path).read_text())) - set(secret_variables())
    assert not list(unknown_variables(dict.fromkeys(found, "")))


def test_each_part_runs_in_compose_and_in_kubernetes() -> None:
    assert {service["command"][0] for service in COMPOSE["services"].values() if service["image"] == "kixo"} == PARTS
    assert {container(deployment)["args"][0] for deployment in DEPLOYMENTS} == PARTS


def test_the_image_opens_the_ports_that_are_asked() -> None:
    (exposed,) = re.findall(r"^EXPOSE (.*)$", DOCKERFILE, re.MULTILINE)
    ports = {str(port["containerPort"]) for deployment in DEPLOYMENTS for port in container(deployment)["ports"]}
    assert ports == set(exposed.split())


@pytest.mark.parametrize("deployment", DEPLOYMENTS, ids=lambda deployment: deployment["metadata"]["name"])
def test_a_pod_is_asked_on_ports_that_it_has_and_does_not_run_as_root(deployment: dict[str, Any]) -> None:
    pod, only = deployment["spec"]["template"]["spec"], container(deployment)
    names = {port["name"] for port in only["ports"]}
    assert {only[probe]["httpGet"]["port"] for probe in ("startupProbe", "livenessProbe", "readinessProbe")} <= names
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert f"USER {pod['securityContext']['runAsUser']}:{pod['securityContext']['runAsGroup']}" in DOCKERFILE
    assert {mount["name"] for mount in only["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}


def test_services_and_budgets_find_their_pods() -> None:
    labels = {deployment["spec"]["template"]["metadata"]["labels"]["app"] for deployment in DEPLOYMENTS}
    chosen = [document["spec"]["selector"] for document in of_kind("Service")]
    chosen += [document["spec"]["selector"]["matchLabels"] for document in of_kind("PodDisruptionBudget")]
    assert chosen
    assert {selector["app"] for selector in chosen} <= labels


def test_each_file_of_secrets_is_in_the_secret() -> None:
    (settings,), (secrets,) = of_kind("ConfigMap"), of_kind("Secret")
    named = [Path(value) for name, value in settings["data"].items() if name.endswith("_FILE")]
    assert {path.name for path in named} == set(secrets["stringData"])
    assert {str(path.parent) for path in named} == {"/etc/kixo/secrets"}


def test_no_setting_holds_a_secret() -> None:
    (settings,) = of_kind("ConfigMap")
    whole = {name.removesuffix("_FILE") for name in secret_variables() if name.endswith("_FILE")}
    assert not whole & set(settings["data"])


def test_the_topic_has_as_many_partitions_as_the_settings_say() -> None:
    (option,) = [word for word in COMPOSE["services"]["topic"]["command"] if word.startswith("--partitions=")]
    assert option == f"--partitions={COMPOSE['x-kixo']['environment']['KIXO_LOG_PARTITIONS']}"


def test_what_the_image_is_made_of_is_let_through_to_the_build() -> None:
    let_through = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    lines = [
        line.split()[1:-1] for line in DOCKERFILE.splitlines() if line.startswith("COPY ") and "--from" not in line
    ]
    copied = {path for line in lines for path in line}
    assert copied == let_through
    assert all((ROOT / path).exists() for path in copied)
