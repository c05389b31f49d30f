"""The retrieval memory: similar images, reranking by their captions, and where they are kept."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from training.captioner import checkpoint
from training.captioner.captioner import Captioner
from training.commands.progress import TrainingBar
from training.config import DecodingConfig, TrainingConfig
from training.continual.incremental import RetrainingData, retrain
from training.data.manifest import Row
from training.decoding import retrieval
from training.decoding.beam_search import Candidate
from training.decoding.retrieval import SIMILARITY_WEIGHT, RetrievalMemory
from training.errors import CheckpointError, ConfigError
from training.learning.train import Progress, train
from training.metrics import CiderD
from training.vocabulary import Vocabulary

CAPTIONS = (
    ("a dog runs on the grass", "a brown dog is running"),
    ("a dog jumps over a log",),
    ("two men sit on a bench", "men on a bench", "people sit"),
    ("a child in a red coat",),
)
VOCABULARY = Vocabulary.build([text for several in CAPTIONS for text in several])


def rows(captions: Sequence[tuple[str, ...]] = CAPTIONS) -> list[Row]:
    return [Row(Path(f"{number}.jpg"), sha256(number), several) for number, several in enumerate(captions)]


def sha256(number: int) -> str:
    return hashlib.sha256(bytes([number])).hexdigest()


@pytest.fixture(autouse=True)
def few_images_suffice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retrieval, "IMAGES_PER_NEIGHBOUR", 1)


def grids(count: int = len(CAPTIONS)) -> torch.Tensor:
    return torch.randn(count, 9, 16, generator=torch.Generator().manual_seed(1))  # (N, P, C)


def remembered(rows: Sequence[Row], grid: torch.Tensor, vocabulary: Vocabulary = VOCABULARY) -> RetrievalMemory:
    return RetrievalMemory.build(rows, grid.mean(dim=1), vocabulary, 9)


def known(captions: Sequence[tuple[str, ...]] = CAPTIONS) -> RetrievalMemory:
    return remembered(rows(captions), grids(len(captions)))


def found(*captions: str, log: float = -0.5) -> list[Candidate]:
    return [Candidate(tuple(VOCABULARY.encode(caption)[1:-1]), log) for caption in captions]


def said(several: Sequence[Candidate]) -> list[str]:
    return [VOCABULARY.decode(one.tokens) for one in several]


def test_the_captions_of_the_most_similar_image_decide() -> None:
    proposed = found("a child in a red coat", "men on a bench", "a dog runs")
    for number, caption in ((0, "a dog runs"), (2, "men on a bench"), (3, "a child in a red coat")):
        (ranked,) = known().rerank(grids()[number : number + 1], [proposed], 1, 0.7)
        assert said(ranked)[0] == caption
        assert sorted(said(ranked)) == sorted(said(proposed))


def test_a_far_likelier_caption_stays_first() -> None:
    proposed = found("a child in a red coat", "a dog runs on the grass")
    likely = replace(proposed[0], mean_log_probability=-0.1)
    unlikely = replace(proposed[1], mean_log_probability=-9.0)
    assert said(known().rerank(grids()[:1], [[unlikely, likely]], 1, 0.7)[0])[0] == "a child in a red coat"


def test_similarity_is_the_mean_cider_d_against_each_images_captions() -> None:
    texts = ["a dog runs on the grass", "a dog is a dog", "people sit on a red bench", "child"]
    proposed = found(*texts)
    references = [[tuple(VOCABULARY.encode(text)[1:-1]) for text in several] for several in CAPTIONS]
    cider = CiderD(references)
    tokens = [one.tokens for one in proposed]
    expected = np.mean([cider.rewards([image] * 4, tokens) for image in range(4)], axis=0) / 10  # each image alike
    captions = known().captions.numpy()
    assert known()._caption_similarity([proposed], captions[None])[0] == pytest.approx(expected)
    (ranked,) = known().rerank(grids()[:1], [proposed], 99, 0.7)  # more than there are: all
    worth = SIMILARITY_WEIGHT * expected + [-0.5 * (len(one) + 1) ** 0.3 for one in tokens]
    assert said(ranked) == [texts[place] for place in np.argsort(-worth, kind="stable")]


def test_image_similarity_gives_all_channels_the_same_weight() -> None:
    images = grids(40)
    images[:, :, 0] *= 1000  # a channel of large numbers must not decide alone
    many = [CAPTIONS[number % 4] for number in range(40)]
    forty = remembered(rows(many), images)
    seen = forty.features.double()
    standard = (seen - seen.mean(dim=0)) / seen.std(dim=0, correction=0)
    cosines = torch.nn.functional.cosine_similarity(standard[:, None], standard[None], dim=2)
    asked = forty.features.float()[:, None]  # grids of one cell
    likeness = forty._image_similarity(asked) / standard.norm(dim=1)[:, None].float()
    assert likeness == pytest.approx(cosines.float(), abs=1e-3)


def test_images_are_gone_through_in_parts_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = known()._image_similarity(grids())
    monkeypatch.setattr(retrieval, "CHUNK", 3)
    assert known()._image_similarity(grids()) == pytest.approx(whole, abs=1e-5)


def test_a_later_caption_takes_the_place_of_an_earlier_one() -> None:
    again = replace(rows()[1], references=("a log", "a log", "log", "a dog on a log"))
    later = remembered([again], grids()[1:2])
    both = known().updated(later)
    assert [bytes(one).hex() for one in both.hashes.numpy()] == [sha256(number) for number in (0, 2, 3, 1)]
    assert both.captions.shape == (4, 4, 6)
    assert [VOCABULARY.decode(tokens) for tokens in both.captions[3].tolist()] == [
        "a log",
        "a log",
        "log",
        "a dog on a log",
    ]
    assert torch.equal(both.captions[0, :2], known().captions[0, :2])
    assert torch.equal(both.features, known().features[[0, 2, 3, 1]])


def test_only_the_latest_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retrieval, "MAX_IMAGES", 3)
    assert [bytes(one).hex() for one in known().hashes.numpy()] == [sha256(number) for number in (1, 2, 3)]
    later = remembered([replace(rows()[0], sha256=sha256(9))], grids()[:1])
    assert [bytes(one).hex() for one in known().updated(later).hashes.numpy()] == [sha256(2), sha256(3), sha256(9)]


def test_one_image_and_empty_captions_can_be_asked() -> None:
    single = remembered([replace(rows()[0], references=("?!", "a dog runs"))], grids()[:1])
    proposed = [*found("a dog runs"), Candidate((), -0.1)]
    assert len(single.rerank(grids()[:2], [proposed, proposed], 5, 0.9)) == 2


@pytest.fixture
def remembering(tiny: Captioner) -> Captioner:
    torch.manual_seed(3)
    seen = torch.randn(6, tiny.encoder.cells(32), tiny.encoder.channels)
    captions = [("a blue picture",), ("a red picture", "red")] * 3
    tiny.retrieval = remembered(rows(captions), seen, tiny.vocabulary)
    return tiny


def test_a_captioner_reranks_its_beam(remembering: Captioner) -> None:
    grid = torch.randn(3, remembering.encoder.cells(32), remembering.encoder.channels)
    plain = DecodingConfig(beam=8, max_length=6)
    voted = replace(plain, neighbours=2)
    proposed = [
        [Candidate(one.tokens, float(np.log(one.score))) for one in several]
        for several in remembering.generate_n_best(grid, 8, plain)
    ]
    assert remembering.retrieval is not None
    expected = remembering.retrieval.rerank(grid, proposed, 2, 0.9)
    told = remembering.generate_n_best(grid, 3, voted)
    assert [[one.tokens for one in several] for several in told] == [
        [one.tokens for one in several[:3]] for several in expected
    ]
    assert plain.signature() != voted.signature()
    remembering.retrieval = None
    assert remembering.generate(grid, voted) == remembering.generate(grid, plain)


def test_a_checkpoint_keeps_the_memory(remembering: Captioner, tmp_path: Path) -> None:
    assert remembering.retrieval is not None
    loaded = checkpoint.load(checkpoint.save(tmp_path / "kept", remembering), "cpu")
    assert loaded.retrieval is not None
    for name, value in remembering.retrieval.tensors().items():
        assert torch.equal(loaded.retrieval.tensors()[name], value), name
    remembering.retrieval = None
    assert checkpoint.load(checkpoint.save(tmp_path / "none", remembering), "cpu").retrieval is None


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("features", lambda value: None, "is incomplete"),
        ("features", lambda value: value.float(), "is incomplete"),
        ("features", lambda value: value[:, :5].contiguous(), "is of another captioner"),
        ("features", lambda value: value[:2], "is of another captioner"),
        ("features", lambda value: value * float("nan"), "Not all of its numbers are finite"),
        ("captions", lambda value: value + 1000, "is of another captioner"),
        ("captions", lambda value: value - 1, "is of another captioner"),
        ("captions", lambda value: value[:, :, :0], "is of another captioner"),
        ("captions", lambda value: value * 0, "is of another captioner"),
        ("hashes", lambda value: value[:, :8].contiguous(), "is of another captioner"),
    ],
)
def test_damaged_ones_are_refused(
    name: str,
    change: Callable[[torch.Tensor], torch.Tensor | None],
    message: str,
    remembering: Captioner,
    tmp_path: Path,
) -> None:
    folder = checkpoint.save(tmp_path / "checkpoint", remembering)
    (folder / checkpoint.SUMS).unlink()
    weights = load_file(folder / "model.safetensors")
    changed = change(weights.pop(f"retrieval.{name}"))
    if changed is not None:
        weights[f"retrieval.{name}"] = changed
    save_file(weights, folder / "model.safetensors")
    with pytest.raises(CheckpointError, match=message):
        checkpoint.load(folder, "cpu")


@pytest.fixture
def frozen_config(tiny_config: TrainingConfig) -> TrainingConfig:
    encoder = replace(tiny_config.encoder, trained="none")
    decoding = replace(tiny_config.decoding, neighbours=2)
    return replace(tiny_config, encoder=encoder, decoding=decoding, epochs=1)


def captions_of(captioner: Captioner) -> dict[str, set[str]]:
    assert captioner.retrieval is not None
    kept = captioner.retrieval
    return {
        bytes(own).hex(): {captioner.vocabulary.decode(filter(None, tokens)) for tokens in several if any(tokens)}
        for own, several in zip(kept.hashes.numpy(), kept.captions.tolist(), strict=True)
    }


def test_a_training_indexes_its_training_images_and_no_development_image(
    frozen_config: TrainingConfig, coloured_rows: list[Row], tmp_path: Path
) -> None:
    rows = [*coloured_rows[:12], *(replace(row, split="dev") for row in coloured_rows[12:])]
    told: list[Progress] = []
    out = train(rows, tmp_path / "out", frozen_config, cache_dir=tmp_path / "c", progress=told.append, device="cpu")
    kept = captions_of(checkpoint.load(out, "cpu"))
    assert set(kept) == {row.sha256 for row in coloured_rows[:12]}
    assert kept[coloured_rows[0].sha256] == {"a red picture", "this is a picture in red"}
    assert (told[-1].phase, told[-1].steps) == ("index", 12)
    with TrainingBar() as bar:
        bar.update(told[-1])


def test_a_retrain_adds_its_images_with_human_captions_only(
    frozen_config: TrainingConfig, coloured_rows: list[Row], tmp_path: Path
) -> None:
    common = {"cache_dir": tmp_path / "cache", "device": "cpu"}
    champion = train(coloured_rows[:8], tmp_path / "champion", frozen_config, **common)
    corrected = replace(coloured_rows[0], references=("a picture of red",))
    lessons = RetrainingData([corrected, *coloured_rows[8:10]], base=coloured_rows[:8])
    learned = retrain(
        checkpoint.load(champion, "cpu"),
        lessons,
        tmp_path / "learned",
        config=replace(frozen_config, epochs=1),
        **common,
    )
    kept = captions_of(learned)
    assert set(kept) == {row.sha256 for row in coloured_rows[:10]}
    assert kept[corrected.sha256] == {"a picture of red"}
    assert kept[coloured_rows[1].sha256] == {"a green picture", "this is a picture in green"}


def test_unedited_drafts_captions_without_words_and_unreadable_images_are_not_indexed(
    frozen_config: TrainingConfig, coloured_rows: list[Row], tmp_path: Path
) -> None:
    unread = replace(coloured_rows[4], image=tmp_path / "gone.png", sha256=sha256(4))
    less = [replace(coloured_rows[0], weight=0.5), replace(coloured_rows[1], references=("...", "?")), unread]
    out = train(
        [*less, *coloured_rows[2:4]], tmp_path / "out", frozen_config, cache_dir=tmp_path / "cache", device="cpu"
    )
    assert set(captions_of(checkpoint.load(out, "cpu"))) == {row.sha256 for row in coloured_rows[2:4]}
    nothing = train(less[:1], tmp_path / "nothing", frozen_config, cache_dir=tmp_path / "cache", device="cpu")
    assert checkpoint.load(nothing, "cpu").retrieval is None


def test_a_retrain_removes_forgotten_images(
    frozen_config: TrainingConfig, coloured_rows: list[Row], tmp_path: Path
) -> None:
    common = {"cache_dir": tmp_path / "cache", "device": "cpu"}
    champion = train(coloured_rows[:6], tmp_path / "champion", frozen_config, **common)
    lessons = RetrainingData(coloured_rows[6:8], forgotten={coloured_rows[2].sha256, sha256(99)})
    learned = retrain(
        checkpoint.load(champion, "cpu"),
        lessons,
        tmp_path / "learned",
        config=replace(frozen_config, epochs=1),
        **common,
    )
    kept = set(captions_of(learned))
    assert kept == {row.sha256 for row in coloured_rows[:8]} - {coloured_rows[2].sha256}


def test_only_a_frozen_encoder_can_have_a_memory(tiny_config: TrainingConfig) -> None:
    config = replace(tiny_config, decoding=replace(tiny_config.decoding, neighbours=2))
    with pytest.raises(ConfigError, match=r"decoding\.neighbours is 2, .* encoder\.trained is 'all'"):
        config.validate()


def test_a_small_memory_has_few_neighbours_or_none(monkeypatch: pytest.MonkeyPatch) -> None:
    proposed = found("a child in a red coat", "men on a bench", "a dog runs")
    monkeypatch.setattr(retrieval, "IMAGES_PER_NEIGHBOUR", 2)
    assert known().rerank(grids()[:1], [proposed], 9, 0.7) == known().rerank(grids()[:1], [proposed], 2, 0.7)
    monkeypatch.setattr(retrieval, "IMAGES_PER_NEIGHBOUR", 5)
    assert known().rerank(grids()[:1], [proposed], 9, 0.7) == [proposed]


def test_endless_captions_are_cut_and_only_some_of_an_image_kept() -> None:
    many = replace(rows()[0], references=("a dog " * 5000, *("a log",) * 30))
    assert remembered([many], grids()[:1]).captions.shape == (1, retrieval.MAX_CAPTIONS, 9)
