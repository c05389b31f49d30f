"""docs/kubernetes.yaml: by Kubernetes' schema, and the same as docker-compose.yml."""

from __future__ import annotations

import pytest
import yaml

from tests.compose import ROOT, compose
from tests.test_containers import VARIABLES

MANIFESTS = list(yaml.safe_load_all((ROOT / "docs" / "kubernetes.yaml").read_text()))
BY_NAME = {(each["kind"], each["metadata"]["name"]): each for each in MANIFESTS}
SETTINGS = BY_NAME["ConfigMap", "captioner"]["data"]
PODS = {
    name: each["spec"]["template"]["spec"]
    for (kind, name), each in BY_NAME.items()
    if kind in {"Deployment", "StatefulSet"}
}
SERVICES = compose()["services"]


@pytest.mark.parametrize("kind_and_name", BY_NAME, ids=" ".join)
def test_a_manifest_has_the_form_that_kubernetes_takes(kind_and_name: tuple[str, str]) -> None:
    validator = pytest.importorskip("kubernetes_validate")
    validator.validate(BY_NAME[kind_and_name], validator.latest_version(), strict=True)


def test_every_variable_is_a_setting_and_what_compose_sets() -> None:
    assert SETTINGS.keys() - VARIABLES == set()
    shared = {name: value for name, value in SERVICES["backend"]["environment"].items() if value}
    assert {name for name, value in shared.items() if SETTINGS.get(name) != value} == {"LABEL_STUDIO_URL"}


def test_the_pods_are_the_services_of_compose() -> None:
    assert PODS.keys() == {name for name, each in SERVICES.items() if each.get("profiles", ["cpu"]) == ["cpu"]}


@pytest.mark.parametrize("name", PODS)
def test_a_pod_runs_what_compose_runs_confined_as_there(name: str) -> None:
    pod, service = PODS[name], SERVICES[name]
    [container] = pod["containers"]
    assert container["image"].removeprefix("registry.example/") == service["image"]
    assert container.get("args") == service.get("command")
    if "build" in service:
        assert container["envFrom"] == [{"configMapRef": {"name": "captioner"}}]
    else:
        own = {each["name"]: each["value"] for each in container.get("env", ())}
        assert own.items() >= service.get("environment", {}).items()
    assert pod["securityContext"]["runAsNonRoot"]
    assert not pod["automountServiceAccountToken"]
    assert not pod["enableServiceLinks"], "CAPTIONER_PORT of a service would be taken for a setting"
    assert container["securityContext"]["capabilities"] == {"drop": service["cap_drop"]}
    assert container["securityContext"].get("readOnlyRootFilesystem") == service.get("read_only")
    assert set(service["secrets"]) <= _secrets(pod)


def _secrets(pod: dict[str, list[dict[str, dict[str, list[dict[str, str]]]]]]) -> set[str]:
    """The secrets that it sees: those it names, else all."""
    [volume] = [each["secret"] for each in pod["volumes"] if "secret" in each]
    return {item["path"] for item in volume.get("items", ())} or set(compose()["secrets"])


def test_every_name_that_is_used_is_there() -> None:
    for name, pod in PODS.items():
        [container] = pod["containers"]
        claims = BY_NAME.get(("StatefulSet", name), {"spec": {}})["spec"].get("volumeClaimTemplates", [])
        volumes = {each["name"] for each in pod["volumes"]} | {each["metadata"]["name"] for each in claims}
        assert {each["name"] for each in container["volumeMounts"]} == volumes
        for volume in pod["volumes"]:
            if "persistentVolumeClaim" in volume:
                assert ("PersistentVolumeClaim", volume["persistentVolumeClaim"]["claimName"]) in BY_NAME
    for (kind, name), each in BY_NAME.items():
        if kind == "Service":
            [container] = PODS[each["spec"]["selector"]["app"]]["containers"]
            assert [port["port"] for port in each["spec"]["ports"]] == [
                port["containerPort"] for port in container["ports"]
            ]
        if kind in {"Deployment", "StatefulSet"}:
            assert each["spec"]["selector"]["matchLabels"] == each["spec"]["template"]["metadata"]["labels"]
            assert each["spec"].get("serviceName", name) == name


def test_label_studio_and_the_backend_find_one_another_by_names_with_a_dot() -> None:
    page = (ROOT / "docs" / "scaling.md").read_text()
    assert "--backend-url http://captioner.captioner.svc:9090" in page
    assert ("Service", "captioner") in BY_NAME
    assert SETTINGS["LABEL_STUDIO_URL"] == "http://label-studio.captioner.svc:8080"
    assert ("Service", "label-studio") in BY_NAME
