"""Samples captions of the tasks on a selection's shortlist, part by part: that takes minutes on a CPU."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from backend.domain.corrections import Draft, Task
from backend.domain.errors import ImageError
from backend.drafts.job import Job
from backend.images.cache import Images
from backend.serving.champions import BATCH, Model
from backend.store.database import chunks
from backend.store.drafts.selections import Selection
from training.errors import DataError
from training.selection.disagreement import SAMPLED, disagreement


def disagreements(
    job: Job, selection: Selection, model: Model, images: Images, drafts: Sequence[Draft]
) -> Mapping[int, float]:
    """By task how much its sampled captions disagree; 0 where its image cannot be read.

    `drafts` are the shortlist, unless an earlier job has begun one. SQL keeps what is done. Raises EndedError where the
    job must end; the next one continues.
    """
    store = job.store
    if not (found := store.shortlist(selection)):
        store.save_shortlist(selection, [draft.task_id for draft in drafts])
        found = store.shortlist(selection)
    left = [draft for draft in drafts if found.get(draft.task_id, 0.0) is None]
    for some in chunks(left, BATCH):
        store.save_disagreements(selection, _sampled(job, selection, model, images, some))
        job.save()
        job.end_in_time()
    return {task_id: value or 0.0 for task_id, value in store.shortlist(selection).items()}


def _sampled(job: Job, selection: Selection, model: Model, images: Images, drafts: Sequence[Draft]) -> dict[int, float]:
    project, paths = job.store.get_project(job.project_id), {}
    for draft in drafts:
        try:
            task = Task(draft.task_id, draft.project_id, draft.image)
            paths[draft.task_id] = images.local(draft.image, task, project).path
        except ImageError:
            pass
    decoding = replace(model.decoding.sampling(), seed=selection.seed)
    several = model.caption_n_best(list(paths.values()), SAMPLED, decoding)
    found = {
        task_id: 0.0 if isinstance(each, DataError) else disagreement([caption.text for caption in each[0]])
        for task_id, each in zip(paths, several, strict=True)
    }
    return dict.fromkeys((draft.task_id for draft in drafts), 0.0) | found
