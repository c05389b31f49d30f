"""The wheel: what it holds, and that plain pip installs it."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.xdist_group("packaging")  # one wheel for all

ROOT = Path(__file__).parent.parent
PACKAGES = ("backend", "training", "labeling_config", "benchmarks", "demo")


def run(*argv: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(list(map(str, argv)), cwd=cwd, capture_output=True, text=True, check=False)


def pip(*argv: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Plain pip, without the configuration of this machine."""
    return run(sys.executable, "-m", "pip", "--isolated", "--disable-pip-version-check", *argv, cwd=cwd)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, because setuptools leaves its work beside the sources."""
    folder = tmp_path_factory.mktemp("packaging")
    for package in PACKAGES:
        shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    done = pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", folder, folder, cwd=folder)
    assert done.returncode == 0, done.stderr
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def environment(wheel: Path) -> Path:
    """An environment that sees the packages installed here, but not the editable install of this project."""
    folder = wheel.parent / "environment"
    assert run(sys.executable, "-m", "venv", "--without-pip", folder, cwd=wheel.parent).returncode == 0
    packages = next(folder.glob("lib/python*/site-packages"))
    (packages / "installed.pth").write_text(sysconfig.get_path("purelib"))
    return folder


@pytest.mark.slow
def test_the_wheel_holds_every_file_of_the_packages(wheel: Path) -> None:
    sources = {
        path.relative_to(ROOT).as_posix()
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    held = set(zipfile.ZipFile(wheel).namelist())
    assert sources <= held
    assert any(name.endswith("licenses/LICENSE") for name in held)


@pytest.mark.slow
def test_plain_pip_installs_the_wheel(wheel: Path, environment: Path) -> None:
    """Pip's resolver goes through the wheel's requirements and those of every package they name; no index is asked."""
    python = environment / "bin" / "python"
    done = pip("--python", python, "install", "--no-index", wheel, cwd=environment)
    assert done.returncode == 0, done.stderr
    shown = run(environment / "bin" / "captioner", "--help", cwd=environment)
    assert shown.returncode == 0, shown.stderr
    assert "train" in shown.stdout
    found = run(python, "-c", "import backend; print(backend.__file__)", cwd=environment)
    assert found.stdout.startswith(str(environment))


def test_without_label_studio_ml_only_the_model_for_its_server_is_missing() -> None:
    code = "import sys; sys.modules['label_studio_ml'] = None; import backend.web.app, backend.jobs, backend.model"
    done = run(sys.executable, "-c", code, cwd=ROOT)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith(
        "ImportError: `backend.model` needs the package label-studio-ml: run"
    )
