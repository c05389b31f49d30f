"""Draws docs/attention.jpg: what each word of a caption by the starter attended to, on the photo of docs/draft.png."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from training.captioner import bundled, checkpoint
from training.errors import DataError
from training.evaluation import explain

DOCS = Path(__file__).parents[1]
PHOTO = (255, 220, 904, 808)  # left, upper, right and lower edge within the screenshot; by NASA, public domain


def draw(photo: Path) -> Image.Image:
    captioner = checkpoint.load(bundled.starter(), "cpu")
    [found] = captioner.caption_n_best([photo], 1, captioner.decoding)
    if isinstance(found, DataError):
        raise found
    [caption], grid = found
    words = [captioner.vocabulary.words[token] for token in caption.tokens]
    return explain.draw(photo, caption.text, words, explain.attention_maps(captioner, grid, caption.tokens))


if __name__ == "__main__":
    import tempfile

    with tempfile.TemporaryDirectory() as folder, Image.open(DOCS / "draft.png") as screenshot:
        photo = Path(folder) / "photo.png"
        screenshot.convert("RGB").crop(PHOTO).save(photo)
        draw(photo).save(DOCS / "attention.jpg", quality=82)
