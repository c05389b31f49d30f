"""Whole retrains with the real training code: in this process, or in a real worker where one is interrupted."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
import redis

from backend import jobs
from backend.domain.corrections import Event
from backend.images.sharing import Sharing
from backend.retraining import examples
from backend.retraining.cancel import cancel
from backend.store.database import now
from backend.store.keeping.shared import SharedFiles
from backend.store.registry import DEFAULT, ModelVersion, Registry
from backend.store.retrains import CANCELLED, DONE, FAILED, MAX_POSTPONED, POSTPONED_SECONDS, QUEUED, RUNNING
from backend.store.store import Store
from backend.up import first_model
from tests.factories import correction, saved, settings
from tests.fakes import Answer, scarce
from tests.integration.conftest import Loop, wait_for
from training.captioner import bundled, checkpoint
from training.captioner.captioner import Captioner
from training.config import TrainingConfig
from training.continual.incremental import LEAST_REPLAYED
from training.data import manifest
from training.learning.step import TrainingStep

MakeLoop = Callable[..., Loop]


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> Callable[[Loop], None]:
    """Does in this process, in few epochs, what a worker would begin now."""
    usual, few = TrainingConfig.retraining, {"epochs": 3}
    monkeypatch.setattr(TrainingConfig, "retraining", lambda *given, **changes: usual(*given, **few | changes))

    def work(loop: Loop) -> None:
        for variable, value in loop.settings.to_env().items():
            monkeypatch.setenv(variable, value)
        for retrain in (*loop.store.queued_retrains(), *loop.store.stale_retrains()):
            jobs.retrain(retrain.id)

    return work


def snapshot(loop: Loop, number: int = -1) -> list[manifest.Row]:
    retrain = sorted(loop.store.retrains(1), key=lambda each: each.id)[number]
    return manifest.load(loop.settings.data_dir / "snapshots" / retrain.snapshot / "manifest.jsonl")


def models(loop: Loop) -> list[str]:
    return sorted(path.name for path in (loop.settings.data_dir / "models").iterdir())


def test_from_corrections_to_a_served_champion(
    make_loop: MakeLoop, here: Callable[[Loop], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = {"CAPTIONER_IMAGES_URL": str(tmp_path / "kept")}
    loop = make_loop(CAPTIONER_RETRAIN_EVERY="24", CAPTIONER_GATE_MARGIN="100", CAPTIONER_REPLAY="1", **kept)
    loop.serve_starter()
    register = Registry.register

    def registered(self: Registry, version: ModelVersion) -> ModelVersion:
        assert checkpoint.WEIGHTS in SharedFiles(loop.store).of(version.checkpoint), "uploaded before anybody sees it"
        return register(self, version)

    monkeypatch.setattr(Registry, "register", registered)
    held_out, trained = loop.pictures.new(held_out=True)[:4], loop.pictures.new(held_out=False)[:20]
    loop.correct([*held_out, *trained])
    here(loop)

    [retrain] = loop.store.retrains(1)
    assert (retrain.state, retrain.version, retrain.attempt) == (DONE, "p1-v1", 1)
    assert retrain.outcome is not None
    assert retrain.outcome.startswith("p1-v1 is promoted: BLEU-4 ")
    assert retrain.outcome.endswith("(4 held-out pairs, provisional).")
    splits = {row.sha256: row.split for row in snapshot(loop)}
    assert {splits.pop(row.sha256) for row in held_out} == {"held_out"}
    assert splits.keys() == {row.sha256 for row in trained}
    assert set(splits.values()) <= {"train", "dev"}

    elsewhere = settings(tmp_path / "other", DATABASE_URL=loop.settings.database_url, **kept)
    store = Store(elsewhere.database_url, elsewhere.data_dir)
    version = Registry(store).get("p1-v1")
    Sharing(elsewhere, store).fetch(version.checkpoint)
    assert checkpoint.digest(version.checkpoint) == version.digest
    assert examples.load(version.checkpoint) == examples.load(loop.registry.get("p1-v1").checkpoint)
    version = loop.registry.get("p1-v1")
    assert (version.parent, version.project_id, version.state) == ("starter", 1, "passed")
    assert version.verdict is not None
    assert version.verdict["pairs"] == 4
    assert models(loop) == ["p1-v1"]
    record = checkpoint.read_info(version.checkpoint)["extra"]
    learnt = len(trained)  # those that would choose too, as they are few
    assert learnt < record["images"] <= learnt + LEAST_REPLAYED, "the corrections and some of the starter's"
    drawn = examples.load(version.checkpoint)
    assert (len(drawn.examples), drawn.without) == (4, "")
    assert all(examples.picture(version.checkpoint, number) for number in range(4))

    loop.watcher.load_champions()
    assert loop.champions.serving(1) == "p1-v1"
    model = loop.champions.model("p1-v1")
    [hypothesis] = model.caption_pixels([model.read(trained[0].image)])
    assert hypothesis.text


def test_the_first_retrain_of_a_project_starts_from_the_starter(
    make_loop: MakeLoop, here: Callable[[Loop], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It comes without images, so nothing of it is replayed, and no development images of it judge."""
    loop = make_loop(CAPTIONER_RETRAIN_EVERY="24", CAPTIONER_GATE_MARGIN="100", CAPTIONER_REPLAY="1")
    monkeypatch.setattr(bundled, "STARTER", loop.pictures.captioner)
    starter = first_model.promote_bundled(loop.registry, 1, loop.settings.data_dir)
    assert starter is not None
    held_out, trained = loop.pictures.new(held_out=True)[:4], loop.pictures.new(held_out=False)[:20]
    loop.correct([*held_out, *trained])
    here(loop)
    version = loop.registry.get("p1-v1")
    assert (version.parent, version.state) == (starter, "passed")
    assert version.verdict is not None
    assert {each["role"] for each in version.verdict["sets"]} == {"corrections"}
    learned, before = (checkpoint.load(each.checkpoint, "cpu") for each in (version, loop.registry.get(starter)))
    assert learned.vocabulary.words[: len(before.vocabulary)] == before.vocabulary.words
    assert checkpoint.read_info(version.checkpoint)["extra"]["images"] == len(trained)


def test_a_retrain_loads_its_champion_and_its_candidate_once(
    make_loop: MakeLoop, here: Callable[[Loop], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[str] = []
    load = checkpoint.load

    def counted(folder: Path, device: str = "auto") -> Captioner:
        loaded.append(folder.name)
        return load(folder, device)

    loop = make_loop(CAPTIONER_RETRAIN_EVERY="8", CAPTIONER_GATE_MARGIN="100", CAPTIONER_REPLAY="1")
    loop.serve_starter()
    monkeypatch.setattr(checkpoint, "load", counted)
    loop.correct([*loop.pictures.new(held_out=True)[:2], *loop.pictures.new(held_out=False)[:8]])
    here(loop)
    assert loop.registry.champions()[1] == "p1-v1"
    assert sorted(loaded) == ["candidate", loop.pictures.captioner.name]


def test_a_killed_work_horse_is_followed_by_another_on_the_same_pairs(
    make_loop: MakeLoop, here: Callable[[Loop], None]
) -> None:
    loop = make_loop(CAPTIONER_RETRAIN_EVERY="12", CAPTIONER_GATE_MARGIN="100")
    loop.serve_starter()
    loop.correct([*loop.pictures.new(held_out=True)[:2], *loop.pictures.new(held_out=False)[:20]])
    worker = loop.work(epochs=10_000)
    interrupted = loop.wait_until_training(worker)
    before = snapshot(loop)
    os.kill(loop.horse(worker), signal.SIGKILL)
    worker.wait()
    assert loop.store.retrains(1)[0].state == RUNNING
    assert not loop.registry.versions(1)[:-1], "nothing but the starter has been registered"

    loop.correct(loop.pictures.new(held_out=False)[20:23], first=100)
    loop.watcher.queue_retrains()
    assert loop.queue.waiting() == 0, "it is not known to be dead yet"
    loop.age_heartbeat(interrupted)
    loop.watcher.queue_retrains()
    assert loop.queue.waiting() == 1
    here(loop)
    [retrain] = loop.store.retrains(1)
    assert (retrain.state, retrain.attempt, retrain.version) == (DONE, 2, "p1-v1")
    assert (retrain.snapshot, snapshot(loop)) == (interrupted.snapshot, before)
    assert models(loop) == ["p1-v1"]
    assert loop.store.counts(1).new == 3


def test_a_killed_worker_takes_its_horse_with_it(make_loop: MakeLoop) -> None:
    loop = make_loop(CAPTIONER_RETRAIN_EVERY="12")
    loop.serve_starter()
    loop.correct(loop.pictures.new(held_out=False))
    worker = loop.work(epochs=10_000)
    loop.wait_until_training(worker)
    horse = loop.horse(worker)
    worker.kill()
    worker.wait()
    wait_for(lambda: not _alive(horse), "the end of the orphaned horse")
    assert loop.store.retrains(1)[0].state == RUNNING


def test_a_worker_told_to_stop_gives_its_retrain_back(make_loop: MakeLoop, here: Callable[[Loop], None]) -> None:
    loop = make_loop(CAPTIONER_RETRAIN_EVERY="12", CAPTIONER_GATE_MARGIN="100")
    loop.serve_starter()
    loop.correct([*loop.pictures.new(held_out=True)[:2], *loop.pictures.new(held_out=False)[:12]])
    worker = loop.work(epochs=10_000)
    loop.wait_until_training(worker)
    worker.terminate()
    worker.wait()
    [retrain] = loop.store.retrains(1)
    assert (retrain.state, retrain.attempt, retrain.deaths) == (QUEUED, 1, 0)
    loop.watcher.queue_retrains()
    assert loop.queue.waiting() == 1
    here(loop)  # the next one need not wait for it to be given up
    [retrain] = loop.store.retrains(1)
    assert (retrain.state, retrain.attempt, retrain.deaths) == (DONE, 2, 0)


def test_a_cancelled_retrain_ends_within_seconds_and_leaves_nothing(
    make_loop: MakeLoop, here: Callable[[Loop], None]
) -> None:
    loop = make_loop(CAPTIONER_RETRAIN_EVERY="12", CAPTIONER_GATE_MARGIN="100")
    loop.serve_starter()
    loop.correct([*loop.pictures.new(held_out=True)[:2], *loop.pictures.new(held_out=False)[:12]])
    worker = loop.work(epochs=10_000)
    running = loop.wait_until_training(worker)
    work = loop.settings.data_dir / "models" / f".{running.snapshot}.{running.id}.{running.attempt}"
    work.mkdir(parents=True, exist_ok=True)  # as where it stands is written down in a long training
    cancelled = cancel(loop.store, loop.queue, 1)
    assert cancelled is not None
    began = time.monotonic()
    assert worker.wait(60) == 0
    assert time.monotonic() - began < 20, "a heartbeat, not an epoch of many"
    [retrain] = loop.store.retrains(1)
    assert (retrain.state, retrain.version, retrain.deaths) == (CANCELLED, None, 0)
    assert models(loop) == []
    assert [version.name for version in loop.registry.versions()] == ["starter"]
    assert loop.registry.champions() == {DEFAULT: "starter"}

    loop.watcher.queue_retrains()
    assert (len(loop.store.retrains(1)), loop.queue.waiting()) == (1, 0), "it does not begin again by itself"
    assert loop.store.counts(1).new == 14
    loop.correct(loop.pictures.new(held_out=False)[12:13], first=100)
    loop.inbox.receive(Event("START_TRAINING", 1))
    here(loop)
    assert [(each.state, each.version) for each in loop.store.retrains(1)] == [(DONE, "p1-v1"), (CANCELLED, None)]
    assert len(snapshot(loop)) == 15, "what was new then is learnt now"


def test_a_queued_retrain_is_cancelled_in_redis_too(make_loop: MakeLoop) -> None:
    loop = make_loop(CAPTIONER_RETRAIN_EVERY="3")
    loop.correct(loop.pictures.new(held_out=False)[:3])
    assert loop.queue.waiting() == 1
    assert cancel(loop.store, loop.queue, 1)
    assert loop.queue.waiting() == 0
    loop.inbox.receive(Event("START_TRAINING", 1))
    assert loop.queue.waiting() == 1, "asked for again, it is queued at once"


def test_a_retrain_that_runs_out_of_memory_goes_on_in_parts(
    make_loop: MakeLoop, here: Callable[[Loop], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = make_loop(CAPTIONER_RETRAIN_EVERY="8", CAPTIONER_GATE_MARGIN="100")
    loop.serve_starter()
    loop.correct([*loop.pictures.new(held_out=True)[:2], *loop.pictures.new(held_out=False)[:8]])
    monkeypatch.setattr(TrainingStep, "forward", scarce(TrainingStep.forward, most=4))
    here(loop)
    [retrain] = loop.store.retrains(1)
    assert retrain.state == DONE
    assert retrain.outcome is not None
    assert retrain.outcome.endswith(" Memory sufficed for 4 images at once only, so micro-batches were used.")


def test_images_that_cannot_be_had_now_are_waited_for(
    make_loop: MakeLoop, here: Callable[[Loop], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = make_loop(CAPTIONER_RETRAIN_EVERY="8", CAPTIONER_GATE_MARGIN="100")
    loop.serve_starter()
    loop.correct([*loop.pictures.new(held_out=True)[:2], *loop.pictures.new(held_out=False)[:8]])
    there = loop.studio.answers["/data/upload/1/3.jpg"]
    loop.studio.answers["/data/upload/1/3.jpg"] = Answer(503)
    here(loop)
    [retrain] = loop.store.retrains(1)
    assert (retrain.state, retrain.frozen, retrain.postponed) == (QUEUED, False, 1)
    assert retrain.outcome is not None
    assert retrain.outcome.startswith("1 of 10 images cannot be fetched now, the first: The image ")
    assert not (loop.settings.data_dir / "snapshots").exists()
    here(loop)
    assert loop.store.retrains(1)[0].attempt == 1, "its time has not come"

    loop.studio.answers["/data/upload/1/3.jpg"] = there
    monkeypatch.setattr("backend.store.retrains.clock", lambda _: now() + timedelta(seconds=POSTPONED_SECONDS))
    here(loop)
    [retrain] = loop.store.retrains(1)
    assert (retrain.state, retrain.attempt) == (DONE, 2)
    assert len(snapshot(loop)) == 10


def test_images_that_stay_away_are_left_out_in_the_end(
    make_loop: MakeLoop, here: Callable[[Loop], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("backend.store.retrains.POSTPONED_SECONDS", 0.0)
    loop = make_loop(CAPTIONER_RETRAIN_EVERY="8", CAPTIONER_GATE_MARGIN="100")
    loop.serve_starter()
    loop.correct([*loop.pictures.new(held_out=True)[:2], *loop.pictures.new(held_out=False)[:8]])
    loop.studio.answers["/data/upload/1/3.jpg"] = Answer(503)
    for _ in range(MAX_POSTPONED + 1):
        here(loop)
    assert loop.store.retrains(1)[0].state == DONE
    assert len(snapshot(loop)) == 9


def test_two_triggers_make_one_retrain_and_a_correction_meanwhile_makes_the_next(make_loop: MakeLoop) -> None:
    loop = make_loop(CAPTIONER_RETRAIN_EVERY="12", CAPTIONER_GATE_MARGIN="100")
    loop.serve_starter()
    held_out, rows = loop.pictures.new(held_out=True), loop.pictures.new(held_out=False)
    loop.correct([*held_out[:2], *rows[:12]])
    loop.inbox.receive(Event("START_TRAINING", 1))
    assert loop.queue.waiting() == 1
    worker = loop.work(epochs=25)
    loop.wait_until_training(worker)
    loop.inbox.receive(Event("START_TRAINING", 1))
    loop.correct(rows[12:13], first=50)
    assert len(loop.store.retrains(1)) == 1
    assert worker.wait() == 0, "the same worker goes on with what was asked meanwhile"

    second, first = loop.store.retrains(1)
    assert [(each.state, each.version) for each in (first, second)] == [(DONE, "p1-v1"), (DONE, "p1-v2")]
    late = rows[12].sha256
    assert late not in {row.sha256 for row in snapshot(loop, 0)}
    assert late in {row.sha256 for row in snapshot(loop, 1)}
    assert loop.registry.get("p1-v2").parent == "p1-v1"
    assert loop.registry.champions()[1] == "p1-v2"
    assert loop.store.request_retrain(1, asked=False, every=1) is None


def test_an_emptied_redis_loses_no_retrain(make_loop: MakeLoop, here: Callable[[Loop], None], redis_url: str) -> None:
    loop = make_loop(CAPTIONER_RETRAIN_EVERY="8")
    loop.serve_starter()
    loop.correct(loop.pictures.new(held_out=False)[:8])
    assert loop.queue.waiting() == 1
    redis.Redis.from_url(redis_url).flushall()
    assert (loop.queue.waiting(), loop.store.retrains(1)[0].state) == (0, QUEUED)
    loop.watcher.queue_retrains()
    assert loop.queue.waiting() == 1
    here(loop)
    assert loop.store.retrains(1)[0].state == DONE


def test_nothing_is_promoted_that_cannot_be_judged(make_loop: MakeLoop, here: Callable[[Loop], None]) -> None:
    loop = make_loop(CAPTIONER_RETRAIN_EVERY="8")
    loop.serve_starter()
    loop.correct(loop.pictures.new(held_out=False)[:8])
    here(loop)
    [retrain] = loop.store.retrains(1)
    assert retrain.outcome == (
        "p1-v1 is held, the champion stays: no held-out corrections to judge by yet (0 held-out pairs, provisional)."
    )
    assert (retrain.state, loop.registry.get("p1-v1").state) == (DONE, "held")
    assert loop.registry.champions() == {DEFAULT: "starter"}


def test_with_manual_promotion_an_operator_decides(make_loop: MakeLoop, here: Callable[[Loop], None]) -> None:
    loop = make_loop(CAPTIONER_RETRAIN_EVERY="8", CAPTIONER_GATE_MARGIN="100", CAPTIONER_PROMOTION="manual")
    loop.serve_starter()
    loop.correct([*loop.pictures.new(held_out=True)[:2], *loop.pictures.new(held_out=False)[:8]])
    here(loop)
    outcome = loop.store.retrains(1)[0].outcome
    assert outcome is not None
    assert outcome.startswith("p1-v1 may be promoted (`captioner promote p1-v1`): BLEU-4 ")
    assert loop.registry.champions() == {DEFAULT: "starter"}


def test_a_champion_chosen_meanwhile_is_not_replaced(
    make_loop: MakeLoop, here: Callable[[Loop], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    from training.gate import gate

    loop = make_loop(CAPTIONER_RETRAIN_EVERY="8", CAPTIONER_GATE_MARGIN="100")
    loop.serve_starter()
    judge = gate.judge

    def meanwhile(*evaluations: gate.Evaluation | None, **rules: float) -> gate.Verdict:
        other = loop.registry.get("starter").__class__("chosen", loop.pictures.captioner)
        loop.registry.register(other)
        loop.registry.promote(1, "chosen", reason="I like it", by="operator")
        return judge(*evaluations, **rules)  # type: ignore[arg-type]

    monkeypatch.setattr(gate, "judge", meanwhile)
    loop.correct([*loop.pictures.new(held_out=True)[:2], *loop.pictures.new(held_out=False)[:8]])
    here(loop)
    outcome = loop.store.retrains(1)[0].outcome
    assert outcome is not None
    assert outcome.startswith("p1-v1 passed but is not promoted: Version 'p1-v1' was compared with 'starter', but")
    assert loop.registry.champions()[1] == "chosen"


def test_a_process_that_died_after_registering_is_not_repeated(
    make_loop: MakeLoop, here: Callable[[Loop], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = make_loop(CAPTIONER_RETRAIN_EVERY="8", CAPTIONER_GATE_MARGIN="100")
    loop.serve_starter()
    loop.correct([*loop.pictures.new(held_out=True)[:2], *loop.pictures.new(held_out=False)[:8]])

    class Killed(BaseException):
        """What no handler catches, as SIGKILL."""

    def die(*_: object, **__: object) -> None:
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr("backend.store.registry.Registry.promote", die)
        with pytest.raises(Killed):
            here(loop)
    [retrain] = loop.store.retrains(1)
    assert retrain.state == RUNNING
    registered = loop.registry.get("p1-v1")
    loop.age_heartbeat(retrain)
    jobs.retrain(retrain.id)
    [retrain] = loop.store.retrains(1)
    assert (retrain.state, retrain.attempt, retrain.version) == (DONE, 2, "p1-v1")
    assert loop.registry.get("p1-v1") == registered
    assert loop.registry.champions()[1] == "p1-v1"


def test_a_first_model_is_trained_from_nothing_where_no_weights_can_be_had(
    make_loop: MakeLoop, here: Callable[[Loop], None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    photos = TrainingConfig.photos
    monkeypatch.setattr(TrainingConfig, "photos", lambda *given, **changes: photos(*given, **changes, epochs=2))
    loop = make_loop(
        CAPTIONER_RETRAIN_EVERY="12",
        CAPTIONER_GATE_FLOOR="0",
        CAPTIONER_ENCODER_WEIGHTS=str(tmp_path / "none.pth"),
    )
    loop.correct([*loop.pictures.new(held_out=True)[:2], *loop.pictures.new(held_out=False)[:12]])
    here(loop)
    [retrain] = loop.store.retrains(1)
    assert retrain.outcome is not None
    assert retrain.outcome.startswith("p1-v1 is promoted: BLEU-4 ")
    version = loop.registry.get("p1-v1")
    assert version.parent is None
    assert checkpoint.read_info(version.checkpoint)["encoder"]["name"] == "small_cnn"


def test_several_annotations_of_one_image_are_one_row(make_loop: MakeLoop, here: Callable[[Loop], None]) -> None:
    loop = make_loop(CAPTIONER_RETRAIN_EVERY="100")
    loop.serve_starter()
    [row] = loop.pictures.new(held_out=False)[:1]
    loop.correct([row])
    twice = correction(900, "another caption", task_id=1), correction(901, row.references[0], task_id=1)
    loop.inbox.receive(saved(*twice))
    loop.correct([row], first=2)  # the same picture uploaded as another task
    loop.inbox.receive(Event("START_TRAINING", 1))
    here(loop)
    [row_again] = snapshot(loop)
    assert (row_again.sha256, row_again.references) == (row.sha256, (row.references[0], "another caption"))


def test_a_failure_is_told_in_one_sentence(make_loop: MakeLoop, here: Callable[[Loop], None]) -> None:
    loop = make_loop(CAPTIONER_RETRAIN_EVERY="3")
    loop.serve_starter()
    loop.inbox.receive(saved(*(correction(number) for number in (1, 2, 3))))
    here(loop)
    [retrain] = loop.store.retrains(1)
    assert retrain.state == FAILED
    assert retrain.outcome is not None
    assert retrain.outcome.startswith("None of the 3 corrections can be used; the first: ")
    assert loop.queue.waiting() == 1, "only what was queued at first; it does not try again by itself"
    loop.correct(loop.pictures.new(held_out=True)[:3], first=1, second=1)
    here(loop)
    assert loop.store.retrains(1)[0].outcome == (
        "All 3 corrected images belong to the held-out ones that judge models; correct a few more."
    )


def _alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"
