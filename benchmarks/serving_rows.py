"""The rows of `benchmarks.serving`: what is sent, what is timed beside it, and the figures."""

from __future__ import annotations

import json
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from benchmarks.report import percentile
from benchmarks.server import cpu_seconds, largest_below, task
from benchmarks.serving_load import Answer, Client, Memory, Tasks, settle, write_huge
from benchmarks.serving_model import Beside, accelerate, bare, encoder_rate, stages
from training.captioner.captioner import BATCH

REPEATS, BLOCKS = 3, 4
FINISHING = 10  # times that a request is sent again, at most, until all of its tasks have drafts
BATCH_SECONDS = 0.5
SETTLE_SECONDS = 1200.0
HUGE_TASK = 1_000_000


@dataclass(frozen=True)
class Size:
    tasks: int = 256  # of the large request
    clients: int = 64
    singles: int = 40
    interactive: int = 60
    thousands: int = 5000
    huge: int = 10_000  # pixels of a side
    pairs: int = 3  # of a large request and the encoder alone
    encoder_seconds: float = 15.0  # of the encoder alone, at most
    pause_seconds: float = 0.3  # of the annotator, between two tasks
    quiet_seconds: float = 2.0  # without work, until nothing more is expected
    rest_seconds: float = 10.0  # from then until memory is looked at


QUICK = Size(16, 4, 4, 4, 64, 2000, 1, 1.0, pause_seconds=0.05, quiet_seconds=0.5, rest_seconds=0.5)


class Rows:
    """The rows of one captioner, to be called in order. `figures` has those that are there, keys begin with `name`."""

    def __init__(self, name: str, client: Client, pid: int, beside: Beside, tasks: Tasks, size: Size) -> None:
        self.figures: dict[str, float] = {}
        self._name = name
        self._client = client
        self._pid = pid
        self._beside = beside
        self._tasks = tasks
        self._size = size
        self._last: tuple[list[dict[str, Any]], Answer, float]  # tasks, their answer, cores used meanwhile

    def warm_up(self) -> None:
        for number in (1, 1, self._size.clients):
            self._drafted(self._client.ask(self._tasks.take(number)[0]))
        self._settle()

    def accelerate(self, folder: Path) -> None:
        """Have the model beside the server encode as the server does, which says so in its log."""
        log = folder / "serve.log"
        is_used = "times as fast as torch and is used" in log.read_text(encoding="utf-8")
        if is_used:
            self._beside.run(accelerate, folder / "compiled")
        self._found(onnxruntime=is_used)

    def throughput(self) -> None:
        """One large request and the encoder in turn."""
        size, answers, encoder, used = self._size, [], [], []
        for _ in range(size.pairs):
            tasks, photos = self._tasks.take(size.tasks)
            encoder.append(self._beside.run(encoder_rate, photos[: 2 * BATCH], size.tasks, size.encoder_seconds))
            before = cpu_seconds(self._pid)
            answers.append(self._drafted(self._client.ask(tasks)))
            used.append((cpu_seconds(self._pid) - before) / answers[-1].seconds)
            self._settle()
        self._last = tasks, answers[-1], used[-1]
        ratios = [answer.rate / rate for answer, rate in zip(answers, encoder, strict=True)]
        self._found(
            http_over_encoder=statistics.median(ratios),
            http_images_a_second=statistics.median(answer.rate for answer in answers),
            encoder_images_a_second=statistics.median(encoder),
            cores_used=statistics.median(used),
        )

    def shares(self, folder: Path, hosts: str) -> None:
        """Where the server's CPU seconds went during the last large request."""
        tasks, answer, cores = self._last
        cpu = self._beside.run(stages, folder, hosts, [each["data"]["image"] for each in tasks])
        spent = cores / answer.rate * len(tasks)
        shares = {f"{stage}_share": seconds / spent for stage, seconds in cpu.items()}
        self._found(**shares, rest_share=1 - sum(shares.values()))

    def cached(self) -> None:
        """The last large request again."""
        tasks, first, _ = self._last
        for _ in range(FINISHING):
            if all(self._client.ask(tasks).drafts):  # else some came too late
                break
            self._settle()
        again = [self._client.ask(tasks) for _ in range(REPEATS)]
        pairs = zip(first.drafts, again[-1].drafts, strict=True)
        self._found(
            cached_speedup=statistics.median(answer.rate for answer in again) / first.rate,
            changed_drafts=sum(before not in (None, after) for before, after in pairs),
        )

    def concurrent(self) -> None:
        tasks, _ = self._tasks.take(self._size.tasks)
        seconds, answers = self._client.ask_at_once(tasks, self._size.clients)
        waits = [1000 * answer.seconds for answer in answers]
        self._found(
            concurrent_over_batch=sum(answer.drafted for answer in answers)
            / seconds
            / self.figures[f"{self._name}_http_images_a_second"],
            concurrent_p50_ms=percentile(waits, 0.5),
            concurrent_p95_ms=percentile(waits, 0.95),
            concurrent_p99_ms=percentile(waits, 0.99),
        )
        self._settle()

    def single(self) -> None:
        """Blocks of requests and of calls of the model in turn, on the same photos."""
        served: list[Answer] = []
        model: list[tuple[float, str]] = []
        for _ in range(BLOCKS):
            tasks, photos = self._tasks.take(self._size.singles // BLOCKS)
            served += [self._drafted(self._client.ask([each])) for each in tasks]
            model += [self._beside.run(bare, photo) for photo in photos]
        through, inside = (statistics.median(each) for each in ([a.seconds for a in served], [s for s, _ in model]))
        same = [answer.drafts[0] == text for answer, (_, text) in zip(served, model, strict=True)]
        self._found(
            single_over_model=through / inside,
            single_p50_ms=1000 * through,
            model_p50_ms=1000 * inside,
            same_captions_share=statistics.mean(same),
        )

    def thousands(self, folder: Path, host: str) -> None:
        """A request of thousands of tasks: an annotator beside it, then a huge image; the memory; the request again."""
        size, memory = self._size, Memory(largest_below(self._pid))
        write_huge(folder / "huge.jpg", size.huge)
        before = memory.now()
        idle = [self._opened() for _ in range(size.interactive)]
        tasks, _ = self._tasks.take(size.thousands)
        with memory.watched(), ThreadPoolExecutor(2) as pool:
            running = pool.submit(self._client.ask, tasks)
            time.sleep(size.pause_seconds)
            beside: list[Answer] = []
            while not running.done() and len(beside) < size.interactive:
                beside.append(self._opened())
            huge = pool.submit(self._client.ask, [task(HUGE_TASK, f"{host}/huge.jpg")])
            answer, huge_answer = running.result(), huge.result()
            settled = self._settle()
        time.sleep(size.rest_seconds)
        after = memory.now()
        again = self._client.ask(tasks)
        batch = min(BATCH_SECONDS, BATCH / self.figures[f"{self._name}_http_images_a_second"])
        slow, usual = (percentile([answer.seconds for answer in each], 0.95) for each in (beside, idle))
        self._found(
            interactive_p95_ratio=(slow - batch) / usual,
            interactive_p95_ms=1000 * slow,
            interactive_idle_p95_ms=1000 * usual,
            interactive_batch_ms=1000 * batch,
            interactive_requests=len(beside),
            interactive_undrafted=sum(not each.drafted for each in beside),
            large_answer_seconds=answer.seconds,
            large_drafted_share=answer.drafted / size.thousands,
            large_settled_seconds=settled,
            large_again_share=again.drafted / size.thousands,
            large_again_seconds=again.seconds,
            huge_drafted=huge_answer.drafted,
            rss_before_mib=before,
            rss_peak_mib=memory.peak,
            rss_after_mib=after,
        )

    def _opened(self) -> Answer:
        """The answer for a new task, and a pause."""
        answer = self._client.ask(self._tasks.take(1)[0])
        time.sleep(self._size.pause_seconds)
        return answer

    def _settle(self) -> float:
        return settle(self._pid, self._size.quiet_seconds, SETTLE_SECONDS)

    def _drafted(self, answer: Answer) -> Answer:
        if not answer.drafted:
            raise click.ClickException(f"No task of a request with {len(answer.drafts)} got a draft.")
        return answer

    def _found(self, **figures: float) -> None:
        named = {f"{self._name}_{key}": value for key, value in figures.items()}
        self.figures |= named
        print(json.dumps(named), flush=True)
