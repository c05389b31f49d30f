"""The process that starts the others: `python -m training.learning.elastic.agent FOLDER NUMBER`.

Where one of them fails it ends the rest. Of one that was killed it writes a line of JSON to its output, as they do.
"""

from __future__ import annotations

import json
import os
import socket
import sys
from datetime import timedelta
from pathlib import Path

from torch.distributed import TCPStore  # type: ignore[attr-defined]
from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.elastic.rendezvous import RendezvousHandler, RendezvousParameters, rendezvous_handler_registry
from torch.distributed.elastic.rendezvous.static_tcp_rendezvous import StaticTCPRendezvous
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

MEMBER = ("-P", "-m", "training.learning.elastic.member")
LOOPBACK = "127.0.0.1"
NAME = "loopback"
TIMEOUT_SECONDS = 300
MONITOR_SECONDS = 0.1


class Loopback(StaticTCPRendezvous):
    """Where processes of this machine meet. `torchrun --standalone` listens on every address of the machine, and loads
    pickles that are sent to it."""

    def __init__(self, run_id: str) -> None:
        listening = socket.create_server((LOOPBACK, 0))
        port = listening.getsockname()[1]
        super().__init__(LOOPBACK, port, rank=0, world_size=1, run_id=run_id, timeout=TIMEOUT_SECONDS)
        self._store = TCPStore(
            LOOPBACK,
            port,
            is_master=True,
            timeout=timedelta(seconds=TIMEOUT_SECONDS),
            wait_for_workers=False,
            multi_tenant=True,
            master_listen_fd=listening.detach(),
        )

    def get_backend(self) -> str:
        return NAME


def _loopback(parameters: RendezvousParameters) -> RendezvousHandler:
    return Loopback(parameters.run_id)


def main(folder: Path, processes: int) -> int:
    """Exit status: whether all of them have ended well."""
    rendezvous_handler_registry.register(NAME, _loopback)
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=processes,
        run_id=folder.name,
        rdzv_backend=NAME,
        max_restarts=0,
        monitor_interval=MONITOR_SECONDS,
        local_addr=LOOPBACK,
        logs_specs=DefaultLogsSpecs(str(folder)),
    )
    try:
        elastic_launch(config, sys.executable)(*MEMBER, str(folder), str(os.getpid()))
    except ChildFailedError as error:
        for rank, failure in error.failures.items():
            if failure.exitcode < 0:
                report = {"failed": "killed", "rank": rank, "signal": -failure.exitcode}
                print(json.dumps(report), flush=True)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), int(sys.argv[2])))
