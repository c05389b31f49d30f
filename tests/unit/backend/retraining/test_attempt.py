from __future__ import annotations

import hashlib
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from backend.domain.errors import CaptionerError, UnreachableImageError
from backend.domain.splits import JUDGING, split_of
from backend.images.remote import Remote
from backend.retraining.attempt import Retraining
from backend.retraining.heartbeat import Heartbeat
from backend.retraining.history import quarantined_rows
from backend.retraining.snapshot import PostponedError
from backend.settings import Settings
from backend.store.keeping.shared import SharedFiles
from backend.store.registry import DEFAULT, ModelVersion, Registry
from backend.store.retrains import MAX_POSTPONED
from backend.store.store import Store
from tests import factories
from tests.factories import correction, picture, saved, settings
from tests.fakes import Answer, Host, host
from training.config import DecodingConfig, EncoderConfig, TrainingConfig
from training.continual.incremental import RetrainingData
from training.continual.mismatch import ImageTextMatch
from training.data import manifest, transforms
from training.data.manifest import DEV, HELD_OUT, TRAIN, Row
from training.decoding.beam_search import Hypothesis
from training.gate.gate import Verdict


class EnoughError(CaptionerError):
    """Raised in place of training."""


class Trainings:
    """Stands in for `training.learning.train.train` and remembers what it was asked."""

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self.config: TrainingConfig | None = None
        self.options: dict[str, Any] = {}

    def __call__(self, rows: list[Row], out: Path, config: TrainingConfig, **options: Any) -> Path:
        self.rows, self.config, self.options = rows, config, options
        raise EnoughError("enough")


@pytest.fixture
def trainings(monkeypatch: pytest.MonkeyPatch) -> Trainings:
    stand_in = Trainings()
    monkeypatch.setattr("backend.retraining.attempt.train", stand_in)
    monkeypatch.setattr(
        "training.captioner.checkpoint.encoder_of", lambda folder: EncoderConfig("small_cnn", "none", "all")
    )
    return stand_in


@pytest.fixture
def contents() -> list[bytes]:
    """Pictures with contents of their own, those that are held out first."""
    made = [picture((number, 7, 9)) for number in range(120)]
    return sorted(made, key=lambda content: _row(content).split != HELD_OUT)


def _row(content: bytes, image: Path = Path("x.png"), *references: str, split: str | None = None) -> Row:
    sha256 = hashlib.sha256(content).hexdigest()
    by_content = HELD_OUT if manifest.split_position(sha256) < 0.15 else TRAIN
    return Row(image, sha256, references or ("of the base",), split or by_content)


def _retrain(configured: Settings, captions: dict[int, tuple[bytes, str]], studio: Host) -> Retraining:
    for number, (content, _) in captions.items():
        studio.answers[f"/data/upload/1/{number}.jpg"] = Answer(body=content)
    store = Store(configured.database_url, configured.data_dir)
    store.migrate()
    store.record(saved(*(correction(number, text) for number, (_, text) in captions.items())))
    requested = store.request_retrain(1, asked=True, every=50)
    assert requested is not None
    claimed = store.claim_retrain(requested.id)
    assert claimed is not None
    return Retraining(configured, store, claimed, Heartbeat(store, claimed))


def test_a_champion_learns_on_from_what_is_new(
    tmp_path: Path, contents: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, Any] = {}

    def retrain(champion: object, data: RetrainingData, out: Path, **options: Any) -> None:
        asked.update(options, champion=champion, data=data)
        raise EnoughError("enough")

    monkeypatch.setattr("backend.retraining.attempt.retrain", retrain)
    monkeypatch.setattr("training.captioner.checkpoint.load", lambda folder, device: folder)
    monkeypatch.setattr("backend.retraining.gate.ProjectGate.mismatch", lambda *_: None)
    held_out = [content for content in contents if split_of(_row(content).sha256, 0.05) in JUDGING]
    others = [content for content in contents if split_of(_row(content).sha256, 0.05) == TRAIN]
    choosing = [content for content in contents if split_of(_row(content).sha256, 0.05) == DEV]
    base = [_row(content, tmp_path / "base.png", split=TRAIN) for content in contents]  # trained before all splits
    manifest.save(base, tmp_path / "base" / "manifest.jsonl")
    manifest.save([_row(others[1], tmp_path / "x.png", "picture 1")], tmp_path / "own" / "manifest.jsonl")
    captions = {number: (content, f"picture {number}") for number, content in enumerate(others[1:11], start=1)}
    captions |= {20 + n: (content, "held out") for n, content in enumerate(held_out[:3])}
    captions |= {30: (choosing[0], "chooses a candidate")}
    with host() as studio:
        configured = settings(
            tmp_path / "data",
            LABEL_STUDIO_URL=studio.url,
            CAPTIONER_REPLAY="2",
            CAPTIONER_BLIND_SHARE="0.05",
        )
        retraining = _retrain(configured, captions, studio)
        registry = Registry(retraining._store)
        registry.register(ModelVersion("starter", tmp_path, manifest=tmp_path / "base" / "manifest.jsonl"))
        own = tmp_path / "own" / "manifest.jsonl"
        registry.register(ModelVersion("p1-v1", tmp_path / "champion", 1, parent="starter", manifest=own))
        registry.promote(1, "p1-v1", reason="better", by="gate")
        with pytest.raises(EnoughError):
            retraining.run()
    data = asked["data"]
    pictures = {f"picture {number}" for number in range(2, 11)}
    assert {row.references[0] for row in data.new} == pictures | {"chooses a candidate"}, "too few would choose"
    assert [row.references for row in data.known] == [("picture 1",)]
    assert not data.choosing
    never = {_row(content).sha256 for content in [*held_out, choosing[0], *others[1:11]]}
    assert data.base
    assert not {row.sha256 for row in data.base} & never
    assert (asked["champion"], asked["replay"]) == (tmp_path / "champion", 2.0)
    assert asked["tensorboard"] == tmp_path / "data" / "tensorboard" / "p1-v2"
    new = manifest.load(next((tmp_path / "data" / "snapshots").rglob("new.jsonl")))
    assert [row.references for row in new] == [row.references for row in data.new]


@pytest.mark.parametrize(
    ("encoder", "weights", "expected"),
    [
        ("mobilenet_v2", "imagenet", ("mobilenet_v2", "imagenet", "none")),
        ("resnet50", "none", ("resnet50", "none", "all")),
        ("small_cnn", "imagenet", ("small_cnn", "none", "all")),
    ],
)
def test_a_first_model_uses_the_encoder_of_the_settings(
    tmp_path: Path, contents: list[bytes], trainings: Trainings, encoder: str, weights: str, expected: tuple[str, ...]
) -> None:
    environ = {"CAPTIONER_ENCODER": encoder, "CAPTIONER_ENCODER_WEIGHTS": weights}
    with host() as studio:
        configured = settings(tmp_path, LABEL_STUDIO_URL=studio.url, **environ)
        learnt = [content for content in contents if split_of(_row(content).sha256, 0.05) not in JUDGING]
        captions = {n: (content, "Some picture.") for n, content in enumerate(learnt[:20], start=1)}
        with pytest.raises(EnoughError):
            _retrain(configured, captions, studio).run()
    assert trainings.config is not None
    used = trainings.config.encoder
    assert (used.name, used.weights, used.trained) == expected
    assert trainings.config.agreed_captions == 0, "every correction is learned"
    assert "start_from" not in trainings.options
    assert len(trainings.rows) == 20
    assert trainings.config.epochs == 100, "a small set is repeated often"


@pytest.mark.parametrize(("right", "serves", "provisional"), [(0.4, "starter", False), (0.9, "p1-v1", False)])
def test_a_champion_promoted_on_few_pairs_is_judged_again_at_enough(
    tmp_path: Path, contents: list[bytes], monkeypatch: pytest.MonkeyPatch, right: float, serves: str, provisional: bool
) -> None:
    def told(captioner: float, rows: list[Row], *_: Any) -> list[Hypothesis]:
        wrong = "something else is there to see"
        return [
            Hypothesis(row.references[0] if n % 10 < 10 * captioner else wrong, 0.5, ()) for n, row in enumerate(rows)
        ]

    class Captioner(float):
        decoding = DecodingConfig()
        feature_space = None

    monkeypatch.setattr("training.evaluation.evaluate.hypotheses", told)
    monkeypatch.setattr(
        "training.captioner.checkpoint.load", lambda folder, device: Captioner(right if folder.name == "p1-v1" else 0.7)
    )
    monkeypatch.setattr("backend.retraining.attempt.retrain", _enough)
    monkeypatch.setattr("backend.retraining.gate.ProjectGate.mismatch", lambda *_: None)
    captions = {n: (picture((n, 11, 12)), f"a picture of the number {n} on a wall") for n in range(1, 251)}
    with host() as studio:
        configured = settings(tmp_path / "data", LABEL_STUDIO_URL=studio.url, CAPTIONER_BLIND_SHARE="0.5")
        retraining = _retrain(configured, captions, studio)
        registry = Registry(retraining._store)
        registry.register(ModelVersion("starter", tmp_path / "starter"))
        few = Verdict("promote", True, "as far as so few can say", 9, None, None, 1.0).to_json()
        registry.register(ModelVersion("p1-v1", tmp_path / "p1-v1", 1, parent="starter", verdict=few, state="passed"))
        registry.promote(DEFAULT, "starter", "chosen as default", "operator")
        registry.promote(1, "p1-v1", reason="provisional", by="gate")
        with pytest.raises(EnoughError):
            retraining.run()
    champion = registry.champion(1)
    assert champion
    assert champion.name == serves
    verdict = Verdict.from_json(registry.get("p1-v1").verdict or {})
    assert verdict.provisional is provisional
    assert verdict.pairs >= 100


@pytest.mark.parametrize(("promoted", "serves"), [(None, "starter"), ("p1-v2", "p1-v2")])
def test_what_an_operator_promotes_while_the_champion_is_judged_again_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, promoted: str | None, serves: str
) -> None:
    class Judging:
        pairs = 100

        def verdict(self, *_: Any) -> Verdict:
            if promoted:
                registry.promote(1, promoted, "better at night", "operator")
            return Verdict("reject", False, "worse", 100, None, None, 1.0)

    with host() as studio:
        retraining = _retrain(settings(tmp_path, LABEL_STUDIO_URL=studio.url), {1: (picture(), "a picture")}, studio)
    registry = Registry(retraining._store)
    registry.register(ModelVersion("starter", tmp_path / "starter"))
    few = Verdict("promote", True, "as far as so few can say", 9, None, None, 1.0).to_json()
    for name in ("p1-v1", "p1-v2"):
        registry.register(ModelVersion(name, tmp_path / name, 1, parent="starter", verdict=few, state="passed"))
    registry.promote(DEFAULT, "starter", "chosen as default", "operator")
    registry.promote(1, "p1-v1", reason="provisional", by="gate")
    monkeypatch.setattr(retraining, "_gate", lambda *_: Judging())
    monkeypatch.setattr("training.captioner.checkpoint.load", lambda *_: None)
    retraining._confirm_champion([])
    champion = registry.champion(1)
    assert champion
    assert champion.name == serves
    assert not Verdict.from_json(registry.get("p1-v1").verdict or {}).provisional


def test_a_first_model_leaves_what_an_operator_promoted_while_it_was_trained(tmp_path: Path) -> None:
    with host() as studio:
        retraining = _retrain(settings(tmp_path, LABEL_STUDIO_URL=studio.url), {1: (picture(), "a picture")}, studio)
    registry = Registry(retraining._store)
    passed = Verdict("promote", False, "good enough", 100, None, None, 1.0).to_json()
    first = registry.register(ModelVersion("p1-v1", tmp_path / "p1-v1", 1, verdict=passed, state="passed"))
    registry.register(ModelVersion("own", tmp_path / "own"))
    registry.promote(1, "own", "by an operator", "operator")
    outcome = retraining._promoted(first)
    assert outcome.startswith("p1-v1 passed but is not promoted: ")
    assert registry.champions() == {1: "own"}


def test_what_an_operator_took_back_is_not_promoted_again_by_the_next_attempt(tmp_path: Path) -> None:
    with host() as studio:
        retraining = _retrain(settings(tmp_path, LABEL_STUDIO_URL=studio.url), {1: (picture(), "a picture")}, studio)
    registry = Registry(retraining._store)
    registry.register(ModelVersion("starter", tmp_path / "starter"))
    registry.promote(DEFAULT, "starter", "chosen as default", "operator")
    passed = Verdict("promote", False, "better", 100, None, None, 1.0).to_json()
    candidate = ModelVersion("p1-v1", tmp_path / "p1-v1", 1, parent="starter", verdict=passed, state="passed")
    registry.register(candidate)
    assert retraining._promoted(candidate) == "p1-v1 is promoted: better (100 held-out pairs)."
    assert retraining._promoted(candidate) == "p1-v1 is promoted: better (100 held-out pairs)."
    registry.rollback(1)
    outcome = "p1-v1 was promoted, and has been taken back since: better (100 held-out pairs)."
    assert retraining._promoted(candidate) == outcome
    assert registry.champions() == {DEFAULT: "starter"}


def test_captions_of_other_images_are_quarantined_and_what_waited_before_them_goes_on_waiting(
    tmp_path: Path, contents: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Captioner:
        decoding = DecodingConfig()
        feature_space = None

    def image_text_match(captioner: Captioner, rows: list[Row], *_: Any) -> ImageTextMatch:
        asked.append({row.references[0] for row in rows})
        wrong = sum("misplaced" in row.references[0] for row in rows)
        return ImageTextMatch(10 * len(rows), 10 * (len(rows) - wrong) + 5 * wrong)

    def retrain(champion: Captioner, data: RetrainingData, out: Path, **_: Any) -> Captioner:
        out.mkdir(parents=True)
        return Captioner()

    asked: list[set[str]] = []
    monkeypatch.setattr("backend.retraining.gate.image_text_match", image_text_match)
    monkeypatch.setattr(
        "training.evaluation.evaluate.hypotheses", lambda _, rows, *__: [Hypothesis("a picture", 0.5, ())] * len(rows)
    )
    monkeypatch.setattr("training.captioner.checkpoint.load", lambda *_: Captioner())
    monkeypatch.setattr("backend.retraining.attempt.retrain", retrain)
    train = [content for content in contents if split_of(_row(content).sha256, 0.05) == TRAIN]
    held_out = [content for content in contents if split_of(_row(content).sha256, 0.05) in JUDGING]
    captions = {n: (content, f"waits {n}") for n, content in enumerate(train[:5], start=1)}
    captions |= {n: (content, f"misplaced {n}") for n, content in enumerate(train[5:15], start=10)}
    captions |= {n: (content, f"held out {n}") for n, content in enumerate(held_out[:8], start=30)}
    waiting = [_row(content, tmp_path / "x.png", f"waits {n}") for n, content in enumerate(train[:5], start=1)]
    manifest.save(waiting, tmp_path / "held" / "new.jsonl")
    with host() as studio:
        configured = settings(tmp_path / "data", LABEL_STUDIO_URL=studio.url, CAPTIONER_BLIND_SHARE="0.05")
        retraining = _retrain(configured, captions, studio)
        registry = Registry(retraining._store)
        registry.register(ModelVersion("starter", tmp_path / "starter"))
        held = tmp_path / "held" / "manifest.jsonl"
        manifest.save(waiting, held)
        registry.register(ModelVersion("p1-v1", tmp_path / "p1-v1", 1, parent="starter", manifest=held, state="held"))
        registry.promote(DEFAULT, "starter", "chosen as default", "operator")
        name, outcome = retraining.run()
    assert outcome.startswith(
        f"{name} is rejected, and what it learnt is quarantined: 50 of 100 new captions are likelier"
    )
    new, voting = asked
    assert new == {f"misplaced {n}" for n in range(10, 20)}, "what was held before is not asked about again"
    assert voting == {f"held out {n}" for n in range(30, 38)}
    assert {row.references[0] for row in quarantined_rows(registry.get(name))} == new


def _enough(*_: Any, **__: Any) -> None:
    raise EnoughError("enough")


def test_the_next_attempt_trains_the_same_rows_without_the_data_folder_and_label_studio(
    tmp_path: Path, contents: list[bytes], trainings: Trainings
) -> None:
    captions = {n: (content, f"picture {n}") for n, content in enumerate(contents[-20:], start=1)}
    with host() as studio:
        configured = settings(
            tmp_path / "data", LABEL_STUDIO_URL=studio.url, CAPTIONER_IMAGES_URL=str(tmp_path / "kept")
        )
        retraining = _retrain(configured, captions, studio)
        with pytest.raises(EnoughError):
            retraining.run()
        first, trainings.rows = trainings.rows, []
        studio.answers.clear()
        shutil.rmtree(configured.data_dir / "images")
        with pytest.raises(EnoughError):
            retraining.run()
    assert trainings.rows == first
    assert manifest.content_hash(trainings.rows) == manifest.content_hash(first)
    assert all(manifest.hash_file(row.image) == row.sha256 for row in trainings.rows)


def test_a_retrain_waits_for_a_store_that_cannot_be_reached_and_says_so_in_the_end(
    tmp_path: Path, contents: list[bytes], trainings: Trainings
) -> None:
    with host() as studio:
        configured = settings(tmp_path, LABEL_STUDIO_URL=studio.url, CAPTIONER_IMAGES_URL="nowhere://bucket")
        retraining = _retrain(configured, {1: (contents[-1], "a picture")}, studio)
        with pytest.raises(PostponedError, match=r"^The store nowhere://bucket .* cannot be reached: "):
            retraining.run()
        retraining._retrain = replace(retraining._retrain, postponed=MAX_POSTPONED)
        retraining._store.freeze_retrain = lambda claimed: claimed  # type: ignore[method-assign]
        with pytest.raises(UnreachableImageError, match=r"^The store nowhere://bucket .* cannot be reached: "):
            retraining.run()
    assert not trainings.rows


def test_a_retrain_whose_image_is_deleted_while_it_runs_begins_again_with_the_image(
    tmp_path: Path, contents: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    captions = {n: (content, f"picture {n}") for n, content in enumerate(contents[-20:], start=1)}

    def train(rows: list[Row], *_: Any, **__: Any) -> None:
        image = rows[0].image
        image.unlink()
        transforms.load(image, 32)

    monkeypatch.setattr("backend.retraining.attempt.train", train)
    with host() as studio:
        configured = settings(
            tmp_path / "data", LABEL_STUDIO_URL=studio.url, CAPTIONER_IMAGES_URL=str(tmp_path / "kept")
        )
        retraining = _retrain(configured, captions, studio)
        with pytest.raises(PostponedError, match="cannot be read"):
            retraining.run()
        monkeypatch.setattr("backend.retraining.attempt.train", _enough)
        with pytest.raises(EnoughError):
            retraining.run()


def test_a_retrain_waits_for_a_champion_that_another_machine_has_not_uploaded_yet(
    tmp_path: Path, contents: list[bytes]
) -> None:
    with host() as studio:
        configured = settings(
            tmp_path / "worker",
            LABEL_STUDIO_URL=studio.url,
            DATABASE_URL=f"sqlite:///{tmp_path}/shared.db",
            CAPTIONER_IMAGES_URL=str(tmp_path / "kept"),
        )
        other = Store(configured.database_url, tmp_path / "other")
        other.migrate()
        registry = Registry(other)
        registry.register(ModelVersion("p1-v1", factories.checkpoint(tmp_path / "other" / "models" / "p1-v1"), 1))
        registry.promote(1, "p1-v1", reason="better", by="gate")
        captions = {number: (content, "a picture") for number, content in enumerate(contents, start=1)}
        retraining = _retrain(configured, captions, studio)
        with pytest.raises(PostponedError, match=r"^p1-v1 is not on this machine, and not in .*/kept yet: "):
            retraining.run()


def test_a_trained_version_waits_for_the_store(
    tmp_path: Path, contents: list[bytes], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("backend.retraining.attempt.RETRY_UPLOAD_SECONDS", 0)
    with host() as studio:
        configured = settings(tmp_path, LABEL_STUDIO_URL=studio.url, CAPTIONER_IMAGES_URL=str(tmp_path / "kept"))
        retraining = _retrain(configured, {1: (contents[-1], "a picture")}, studio)
    checkpoint = factories.checkpoint(tmp_path / "models" / "p1-v1")
    taken = manifest.save([_row(contents[0])], tmp_path / "snapshots" / "1-1" / "manifest.jsonl").parent
    refused = iter(range(2))
    usual = Remote.put

    def put(self: Remote, *given: Any) -> None:
        if next(refused, None) is not None:
            raise UnreachableImageError("The store is down.")
        usual(self, *given)

    monkeypatch.setattr(Remote, "put", put)
    retraining._share(checkpoint, taken)
    assert caplog.text.count("p1-v1 is trained and not uploaded yet; it is tried again: The store is down.") == 2
    assert retraining._store.retrains(1)[0].progress["phase"] == "upload"
    known = SharedFiles(retraining._store)
    assert (len(known.of(checkpoint)), list(known.of(taken))) == (3, ["manifest.jsonl"])
    monkeypatch.setattr("backend.retraining.attempt.UPLOADING_SECONDS", 0)
    shutil.rmtree(tmp_path / "kept")
    refused = iter(range(9))
    with pytest.raises(UnreachableImageError, match="is down"):
        retraining._share(checkpoint, taken)
