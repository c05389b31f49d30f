"""Generated scenes and a small captioner for tests that retrain or draft with real weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from training.data import manifest, scenes

SCENES, KNOWN = 120, 60
HELD_OUT_SHARE = 0.15


@dataclass(frozen=True)
class Pictures:
    """Scenes in a folder and a captioner trained on the first `known` of them."""

    folder: Path
    rows: list[manifest.Row]
    known: int = KNOWN

    @property
    def captioner(self) -> Path:
        return self.folder / "captioner"

    @property
    def manifest(self) -> Path:
        """Of what the captioner was trained on."""
        return self.folder / "manifest.jsonl"

    @classmethod
    def make(cls, folder: Path) -> None:
        from training.config import TrainingConfig
        from training.learning.train import train

        rows = manifest.load(scenes.write(folder / "scenes", SCENES, seed=5, dev_share=0))[:KNOWN]
        manifest.save(rows, folder / "manifest.jsonl")
        train(rows, folder / "captioner", TrainingConfig.starter(epochs=3), cache_dir=folder / "cache", device="cpu")

    @classmethod
    def load(cls, folder: Path) -> Pictures:
        return cls(folder, manifest.load(folder / "scenes" / "manifest.jsonl"))

    def new(self, held_out: bool) -> list[manifest.Row]:
        """Scenes the captioner has not seen that are, or are not, held out by their content."""
        rows = self.rows[self.known :]
        return [row for row in rows if (manifest.split_position(row.sha256) < HELD_OUT_SHARE) == held_out]
