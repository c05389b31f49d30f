"""What is wrong with a command is said before captioners are loaded, images read or scenes drawn."""

import pytest

from tests.unit.training.commands.conftest import Run
from training.captioner import checkpoint
from training.commands import caption, compare, evaluate, train
from training.data import datasets


@pytest.fixture
def idle(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing that takes long may be begun."""

    def begun(*given: object, **others: object) -> None:
        pytest.fail("work was begun")

    for module in (caption, compare, evaluate):
        monkeypatch.setattr(module, "load", begun)
    monkeypatch.setattr(checkpoint, "load", begun)
    monkeypatch.setattr(datasets, "read", begun)
    monkeypatch.setattr(train, "_drawn", begun)


@pytest.mark.usefixtures("idle")
@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("evaluate", "SAVED"), "Give --dataset with --data-dir, or --manifest."),
        (("evaluate", "SAVED", "--dataset", "flickr8k", "--data-dir", "absent"), "absent, which is not there"),
        (("evaluate", "SAVED", "--manifest", "absent.jsonl"), "absent.jsonl, which is not there"),
        (("evaluate", "SAVED", "--manifest", "LISTED", "--beam", "0"), "beam is 0"),
        (("evaluate", "SAVED", "--manifest", "LISTED", "--top-p", "0.9", "--beam", "2"), "leave out --beam"),
        (("compare", "SAVED", "SAVED"), "Give --dataset with --data-dir, or --manifest."),
        (("compare", "SAVED", "SAVED", "--manifest", "absent.jsonl"), "absent.jsonl, which is not there"),
        (("caption", "SAVED", "absent.jpg"), "1 of 1 image could not be captioned."),
        (("caption", "absent.jpg"), "1 of 1 image could not be captioned."),
        (("caption", "SAVED", "absent.jpg", "LISTED"), "2 of 2 images could not be captioned."),
        (("train", "--start-from", "SAVED"), "Give --dataset with --data-dir, or --manifest."),
        (("train", "--manifest", "LISTED", "--encoder-weights", "absent.pth"), "There is no file absent.pth"),
        (("train", "--manifest", "LISTED", "--encoder", "small_cnn", "--batch-size", "0"), "batch_size is 0"),
        (("train", "--manifest", "LISTED", "--encoder", "small_cnn", "--device", "cuda:99"), "cuda:99 is not on this"),
        (("train", "--scenes", "--encoder-weights", "absent.pth"), "There is no file absent.pth"),
        (("train", "--scenes", "--encoder-weights", "LISTED"), "cannot be read as weights of small_cnn"),
        (("train", "--scenes", "--device", "cuda:99"), "cuda:99 is not on this machine"),
    ],
)
def test_checks_come_before_work(arguments: tuple[str, ...], says: str, refuse: Run) -> None:
    assert says in refuse(*arguments, *(("--out", "out") if arguments[0] == "train" else ()))
