"""What is shipped says what it needs, pins what it was tested with, and runs with no more rights than it needs."""

import ast
import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions, requires, version
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

REPOSITORY = Path(__file__).parents[1]
PACKAGES = ("retriever", "service", "training", "eval")
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
# faiss comes with an extra; a plain install says which. OpenVINO comes with `cpu`.
OPTIONAL = {"faiss-cpu", "openvino"}


def declared(*extras):
    lists = [PROJECT["dependencies"], *(PROJECT["optional-dependencies"][extra] for extra in extras)]
    return {canonicalize_name(Requirement(line).name) for group in lists for line in group}


def imported(folder):
    """The modules that the files of a folder import, its own files left out, and those that run elsewhere."""
    files = [file for file in (REPOSITORY / folder).rglob("*.py") if file.parent.name != "_rivals"]
    own = {file.stem for file in files}
    yield from (module for file in files for module in imported_by(file) if module not in own)


def imported_by(file):
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield node.module.partition(".")[0]


def distributions_of(modules):
    known = packages_distributions()
    third_party = set(modules) - sys.stdlib_module_names - {*PACKAGES, "tests"}
    return {module: {canonicalize_name(name) for name in known[module]} for module in third_party}


@pytest.mark.parametrize("package", PACKAGES)
def test_what_a_package_imports_is_a_declared_dependency(package):
    undeclared = {
        module: names
        for module, names in distributions_of(imported(package)).items()
        if not names & (declared() | OPTIONAL)
    }
    assert undeclared == {}


@pytest.mark.parametrize("folder", ["tests", "benchmarks", "examples"])
def test_what_the_tests_import_is_a_declared_dependency(folder):
    names = distributions_of(imported(folder))
    assert {module for module, found in names.items() if not found & declared("cpu", "dev")} == set()


def test_every_declared_dependency_is_pinned_to_what_is_tested():
    lines = (REPOSITORY / "constraints.txt").read_text().splitlines()
    pins = dict(line.split("==") for line in lines if not line.startswith("#"))
    wanted = declared("cpu", "demo", "dev")
    assert wanted - {canonicalize_name(name) for name in pins} == set()
    assert {name: version(name).partition("+")[0] for name in pins} == pins


def test_the_installed_distribution_needs_what_the_project_says():
    plain = {canonicalize_name(Requirement(line).name) for line in requires("polyseek") if "extra ==" not in line}
    assert plain == declared()


def stages():
    text = re.sub(r"\\\n\s*", "", (REPOSITORY / "Dockerfile").read_text())
    found = {}
    for line in text.splitlines():
        if start := re.match(r"FROM (\S+) AS (\S+)", line):
            found[start[2]] = [f"FROM {start[1]}"]
        elif found and line and not line.startswith("#"):
            found[next(reversed(found))].append(line)
    return found


@pytest.mark.parametrize("target", ["cpu", "gpu"])
def test_an_image_runs_as_another_user_than_root_and_checks_its_readiness(target):
    found = stages()
    assert found[target][0] == "FROM runtime"
    lines = found["runtime"] + found[target]
    users = [line.removeprefix("USER ") for line in lines if line.startswith("USER ")]
    assert users and all(user.split(":")[0].isdecimal() and int(user.split(":")[0]) > 0 for user in users)
    assert any(line.startswith("HEALTHCHECK") and "/readyz" in line for line in lines)
    assert any(f'".[{target}]"' in line for line in found[f"builder-{target}"])


def compose():
    return yaml.safe_load((REPOSITORY / "docker-compose.yml").read_text())


@pytest.mark.parametrize("name", ["polyseek", "index-builder"])
def test_a_composed_container_writes_to_its_volumes_and_nowhere_else(name):
    service = compose()["services"][name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert {volume.split(":")[1] for volume in service["volumes"] if not volume.endswith(":ro")} == {"/data", "/cache"}


def test_the_index_builder_runs_only_when_asked_for():
    services = compose()["services"]
    assert [name for name, service in services.items() if service.get("profiles")] == ["index-builder"]


def test_prometheus_scrapes_the_service_by_its_composed_name():
    scrape = yaml.safe_load((REPOSITORY / "deploy" / "prometheus.yml").read_text())["scrape_configs"]
    assert [target for job in scrape for config in job["static_configs"] for target in config["targets"]] == [
        "polyseek:8000"
    ]
    mounted = compose()["services"]["prometheus"]["volumes"]
    assert "./deploy/prometheus.yml:/etc/prometheus/prometheus.yml:ro" in mounted


def test_the_gpu_extra_names_the_other_faiss():
    assert declared("gpu") - declared() == {"faiss-gpu"}
    assert "faiss-cpu" in declared("cpu")


def test_the_help_of_every_make_target_is_printed():
    listed = subprocess.run(["make", "help"], cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout
    targets = {line.split()[1] for line in listed.splitlines()}
    assert {"demo", "serve", "test", "soak", "lint", "bench"} <= targets
