"""What the benchmarks of the running backend share."""

import http.client
import os
from pathlib import Path

import click
import pytest

from backend.label_studio import wire
from benchmarks import server


def test_images_are_served_over_a_kept_connection(tmp_path: Path) -> None:
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / name).write_bytes(name.encode())
    with server.images(tmp_path) as port:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        for name in ("a.jpg", "b.jpg"):
            connection.request("GET", f"/{name}")
            answer = connection.getresponse()
            assert (answer.status, answer.read(), answer.will_close) == (200, name.encode(), False)
        connection.close()


def test_requests_are_those_of_label_studio() -> None:
    tasks = [server.task(7, "http://images.example/7.jpg")]
    asked = wire.predict_request(server.predict_request(tasks))
    assert [(each.id, each.image) for each in asked.tasks] == [(7, "http://images.example/7.jpg")]
    assert wire.setup_request(server.setup_request()).project_id == asked.project_id == server.PROJECT


def test_memory_and_cpu_seconds_of_this_process() -> None:
    assert server.resident(os.getpid()) > 2**20
    assert server.cpu_seconds(os.getpid()) > 0
    assert server.resident(2**30) == 0  # there is no such process
    assert server.largest_below(os.getpid()) > 0


def test_waiting_in_vain_says_for_what() -> None:
    server.wait_until(lambda: True, 0, "nothing")
    with pytest.raises(click.ClickException, match="for the retrain, in vain"):
        server.wait_until(lambda: False, 0, "the retrain")
