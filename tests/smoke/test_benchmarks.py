"""Every benchmark runs, and its last line is the JSON that it promises: `make bench-smoke`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DATA = Path(os.environ.get("CAPTIONER_TEST_DATA", ROOT.parent / "shared" / "data"))
ON_PHOTOGRAPHS = {
    "photos": "mobilenet_v2.pth",
    "flickr8k": "resnet50_fp16.pth",
    "captioners": "resnet50_fp16.pth",
    "retraining": None,  # its encoder's are installed, and so are the following ones'
    "rounds": None,
    "adaptation": None,
    "active_learning": None,
    "decoding": None,
    "guided": None,
    "duplicates": None,
    "preannotate": None,
    "retrieval": None,
    "serving": None,
    "signals": None,
    "starter": None,
    "tutorial": None,
    "fidelity": None,
}
NAMES = sorted(path.stem for path in (ROOT / "benchmarks").glob("*.py") if "    report(" in path.read_text())


@pytest.mark.smoke
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", NAMES)
def test_a_smoke_run_ends_with_its_figures(name: str, tmp_path: Path) -> None:
    argv = [sys.executable, "-m", f"benchmarks.{name}", "--quick"]
    if name in ON_PHOTOGRAPHS:
        encoder = ON_PHOTOGRAPHS[name]
        weights = ["--weights", str(DATA / "weights" / encoder)] if encoder else []
        needed = [DATA / "flickr8k", *map(Path, weights[1:])]
        if not all(path.exists() for path in needed):
            pytest.skip(f"{DATA} (or CAPTIONER_TEST_DATA) holds no Flickr8k and no encoder weights")
        argv += ["--data", str(DATA / "flickr8k"), *weights]
    if name in {
        "flickr8k",
        "captioners",
        "retraining",
        "rounds",
        "starter",
        "adaptation",
        "retrieval",
        "active_learning",
    }:
        argv += ["--out", str(tmp_path)]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["benchmark"] == name
    assert result["machine"]["cores"] >= 1
    assert result["figures"]
    assert all(isinstance(value, float | int) for value in result["figures"].values())
