"""What a selection chooses from: waiting tasks with a draft by the champion, and what SQL knows of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import count

import numpy as np

from backend.domain.corrections import Draft
from backend.drafts.job import Job
from backend.drafts.selection.making import CannotChooseError, Choose
from backend.drafts.selection.sampling import disagreements
from backend.images.cache import Images
from backend.serving.champions import Champions
from backend.serving.scores import Scores
from backend.settings import Settings
from backend.store.database import chunks
from backend.store.drafts.selections import Chosen, Selection
from backend.store.store import Store
from training.decoding.reuse import FeatureSpace
from training.errors import DataError
from training.selection import strategies
from training.selection.strategies import Candidates

SAMPLING = frozenset({"disagreement"})
"""Strategies for which captions are sampled."""


def chooser(settings: Settings, store: Store, champions: Champions) -> Choose:
    """Chooses by the strategies of `training.selection`; it loads the champion, whose features are compared."""
    images = Images(settings)

    def choose(job: Job, selection: Selection) -> list[Chosen]:
        project_id, champion = job.project_id, job.champion
        drafts = list({draft.task_id: draft for draft in store.waiting_drafts(project_id, champion.name)}.values())
        if not drafts:
            return []
        champions.serve(project_id, champion.name, champion.checkpoint, champion.digest)
        model = champions.model(champion.name)
        space = model.feature_space
        corrected = {each.image_sha256 for each in store.corrections(project_id) if each.image_sha256}
        candidates = Candidates(
            chances=_chances(store, project_id, drafts),
            margins=np.array([(draft.signals or {}).get("margin", np.nan) for draft in drafts]),
            features=_features(store, project_id, space, [draft.image_sha256 or "" for draft in drafts]),
        )
        if selection.strategy in SAMPLING:
            listed = [drafts[index] for index in strategies.shortlist(candidates, seed=selection.seed)]
            found = disagreements(job, selection, model, images, listed)
            values = np.array([found.get(draft.task_id, np.nan) for draft in drafts])
            candidates = replace(candidates, disagreements=values)
        try:
            selected = strategies.select(
                candidates,
                selection.count,
                selection.strategy,
                seed=selection.seed,
                known=_features(store, project_id, space, sorted(corrected)),
                space=space,
            )
        except DataError as error:
            raise CannotChooseError(str(error)) from error
        return [Chosen(drafts[each.index].task_id, each.is_control) for each in selected]

    return choose


def _chances(store: Store, project_id: int, drafts: Sequence[Draft]) -> np.ndarray:
    """The chance (N,) that each draft is accepted, by what has been learned since it was made, nan where that tells
    nothing of it; their scores as long as nothing is learned. A copied correction is what it is."""
    learned = Scores(store).chances(project_id, [draft.signals for draft in drafts])
    if all(chance is None for chance in learned):
        return np.array([draft.score for draft in drafts])
    chances = [np.nan if chance is None else chance for chance in learned]
    copies = [draft.from_task is not None for draft in drafts]
    return np.where(copies, [draft.score for draft in drafts], chances)


def _features(store: Store, project_id: int, space: FeatureSpace | None, hashes: Sequence[str]) -> np.ndarray | None:
    """The pooled features (N, C) of these images, nan where one is unknown; None where no features can be compared."""
    if space is None:
        return None
    features, places = np.full((len(hashes), len(space.mean)), np.nan, np.float16), count()
    for some in chunks(hashes):  # of a hundred thousand, all in bytes would take as much memory again
        known = store.features(project_id, space.encoder, some)
        for sha256 in some:
            place = next(places)
            if sha256 in known:
                features[place] = np.frombuffer(known[sha256], np.float16)
    return features
