from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from backend.domain.corrections import Draft, Event
from backend.label_studio import wire
from backend.store.database import now
from backend.web.services import Services, build
from labeling_config import Tags
from tests import factories
from tests.factories import correction, picture, saved, served, task
from tests.fakes import Answer, Host, Hypothesis, Model, host
from training.decoding.reuse import FeatureSpace

CHANNELS = 128


class Seeing(Model):
    """Pictures of one shade of red are nearly the same to it, whatever their green; v3 has another encoder."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        encoder = "another" if name == "v3" else "an encoder"
        self.feature_space = FeatureSpace(encoder, np.zeros(CHANNELS), np.full(CHANNELS, 3.0))
        self.asked: list[Any] = []

    def caption_pixels(self, images: Sequence[Path], *, retrieval: Any = None) -> list[Hypothesis]:
        return [Hypothesis(f"{self.name} speaks", 0.5, feature=self._feature(path)) for path in images]

    def retrieval_with(self, corrections: Sequence[Any], features: Any) -> Any:
        self.asked.append([each.caption for each in corrections])
        assert features.shape == (len(corrections), CHANNELS)

    def _feature(self, path: Path) -> bytes:
        red, green, _ = np.asarray(Image.open(path))[0, 0].astype(int)
        shade, noise = (np.random.default_rng(seed).normal(size=CHANNELS) for seed in (red, 1000 + green))
        return bytes((shade + 0.1 * noise).astype(np.float16).tobytes())


SHADES = {1: (10, 0, 0), 2: (10, 1, 0), 3: (10, 2, 0), 4: (200, 0, 0), 5: (10, 0, 0)}
"""Pictures of tasks: 1, 2 and 3 are nearly the same, 5 is the same as 1."""


@pytest.fixture
def studio() -> Iterator[Host]:
    with host() as running:
        running.answers |= {f"/data/upload/1/{n}.jpg": Answer(200, picture(shade)) for n, shade in SHADES.items()}
        yield running


@pytest.fixture
def services(tmp_path: Path, studio: Host) -> Services:
    made = process(tmp_path, studio)
    served(made, "v1")
    return made


def process(folder: Path, studio: Host, **environ: str) -> Services:
    """A web process over the folder."""
    given = {"LABEL_STUDIO_URL": studio.url, "LABEL_STUDIO_API_KEY": "a" * 40, "REDIS_URL": "redis://127.0.0.1:1/0"}
    settings = factories.settings(folder, **given, **environ)
    return build(settings, load=lambda checkpoint, device: Seeing(checkpoint.name))


def drafted(
    services: Services, *ids: int, version: str = "v1", project_id: int = 1
) -> dict[int, tuple[str, int | None]]:
    tasks = [task(id_, project_id, f"/data/upload/1/{id_}.jpg") for id_ in ids]
    found = services.drafting.draft(project_id, tasks, version)
    assert all(isinstance(each, Draft) and each.version == version for each in found), found
    return {each.task_id: (each.text, each.from_task) for each in found if isinstance(each, Draft)}


OWN = ("v1 speaks", None)
COPY = ("a red dot", 1)


def test_a_near_duplicate_is_drafted_with_the_correction_and_says_so(services: Services) -> None:
    assert drafted(services, 1, 2, 4) == {1: OWN, 2: OWN, 4: OWN}
    services.inbox.receive(saved(correction(1, "a red dot")))
    assert drafted(services, 1, 2, 3, 4, 5) == {1: OWN, 2: COPY, 3: COPY, 4: OWN, 5: COPY}
    [copy] = services.drafting.draft(1, [task(2, image="/data/upload/1/2.jpg")], "v1")
    assert isinstance(copy, Draft)
    prediction = wire.prediction(copy, Tags("image", "caption", "image", False))
    assert prediction["model_version"] == "v1", "Label Studio would ask again for another one"
    assert prediction["score"] == 1.0
    assert prediction["result"][0]["value"] == {"text": ["a red dot"]}
    assert prediction["result"][0]["meta"] == {"text": ["from task 1"]}


def test_a_correction_that_changes_or_leaves_does_so_in_drafts(services: Services) -> None:
    drafted(services, 1, 2)
    services.inbox.receive(saved(correction(1, "a red dot")))
    assert drafted(services, 2) == {2: COPY}
    services.inbox.receive(saved(correction(1, "a dark red dot", second=1)))
    assert drafted(services, 2, 3) == {2: ("a dark red dot", 1), 3: ("a dark red dot", 1)}
    services.inbox.receive(saved(correction(1, "a dark red dot", second=2, was_cancelled=True)))
    assert drafted(services, 2, 3) == {2: OWN, 3: OWN}
    services.inbox.receive(saved(correction(1, "a red dot", second=3)))
    assert drafted(services, 2) == {2: COPY}
    services.inbox.receive(Event("ANNOTATIONS_DELETED", 1, deleted_annotations=(1,)))
    assert drafted(services, 2) == {2: OWN}
    read = saved(correction(1, "a red dot", second=3), action="RECONCILED", observed_at=now(), whole_tasks=(1,))
    services.store.record(read)
    assert drafted(services, 2) == {2: COPY}, "it was there after all"
    services.inbox.receive(Event("TASKS_DELETED", 1, deleted_tasks=(1,)))
    assert drafted(services, 2) == {2: OWN}


def test_the_latest_correction_of_an_image_is_copied(services: Services) -> None:
    drafted(services, 1, 5)
    services.inbox.receive(saved(correction(1, "a red dot", second=9)))
    services.inbox.receive(saved(correction(5, "an earlier one that comes late", second=3)))
    assert drafted(services, 2) == {2: COPY}
    assert drafted(services, 1) == {1: ("an earlier one that comes late", 5)}, "of others, not its own"


def test_projects_know_nothing_of_each_other(services: Services) -> None:
    served(services, "v1", project_id=2)
    drafted(services, 1)
    services.inbox.receive(saved(correction(1, "a red dot")))
    assert drafted(services, 2, 5, project_id=2) == {2: OWN, 5: OWN}
    assert drafted(services, 2) == {2: COPY}


def test_every_process_knows_at_once(tmp_path: Path, studio: Host) -> None:
    processes = [process(tmp_path, studio) for _ in range(2)]
    for each in processes:
        served(each, "v1")
        drafted(each, 1)
    for second, text in enumerate(("a red dot", "another", "a third")):
        processes[second % 2].inbox.receive(saved(correction(1, text, second=second)))
        assert [drafted(each, 2) for each in processes] == [{2: (text, 1)}] * 2
    processes[0].inbox.receive(Event("ANNOTATIONS_DELETED", 1, deleted_annotations=(1,)))
    assert [drafted(each, 2) for each in processes] == [{2: OWN}] * 2


def test_after_a_promotion_only_the_same_content_counts_until_features_of_its_encoder_come(services: Services) -> None:
    drafted(services, 1)
    services.inbox.receive(saved(correction(1, "a red dot")))
    served(services, "v2")
    assert drafted(services, 2, version="v2") == {2: COPY}, "the same encoder"
    served(services, "v3")
    assert drafted(services, 2, version="v3") == {2: ("v3 speaks", None)}
    assert drafted(services, 5, version="v3") == {5: COPY}
    assert drafted(services, 2, version="v3") == {2: COPY}, "5 has brought the feature of 1, whose content is the same"


def test_a_blind_task_stays_empty(tmp_path: Path, studio: Host) -> None:
    services = process(tmp_path, studio, CAPTIONER_BLIND_SHARE="1")
    served(services, "v1")
    drafted(services, 1)
    services.inbox.receive(saved(correction(1, "a red dot")))
    assert drafted(services, 2, 5) == {2: ("", None), 5: ("", None)}


def test_it_can_be_turned_off(services: Services, studio: Host) -> None:
    drafted(services, 1)
    services.inbox.receive(saved(correction(1, "a red dot")))
    assert drafted(services, 2) == {2: COPY}
    without = process(services.settings.data_dir, studio, CAPTIONER_REUSE="off")
    served(without, "v1")
    assert drafted(without, 2, 5) == {2: OWN, 5: OWN}


def test_what_reranks_the_beam_is_made_anew_when_corrections_change(services: Services) -> None:
    drafted(services, 1, 4)
    model, reuse = services.champions._models["v1"], services.reuse
    assert isinstance(model, Seeing)
    assert reuse
    reuse.update(1, "v1")
    assert model.asked == []
    services.inbox.receive(saved(correction(1, "a red dot"), correction(4, "left as it was", origin="prediction")))
    for _ in range(2):
        reuse.update(1, "v1")
    assert model.asked == [["a red dot"]], "and no draft that was accepted"
    assert reuse.retrieval(1, "v1") is None
    services.champions._models["v1"] = again = Seeing("v1")  # loaded again, because its checkpoint has changed
    while not again.asked:
        reuse.update(1, "v1")
    assert again.asked == [["a red dot"]]
