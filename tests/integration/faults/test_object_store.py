"""The object store goes away and comes back; processes that used it use it again."""

from __future__ import annotations

from pathlib import Path

import pytest

from backend.domain.errors import UnreachableImageError
from backend.images.sharing import Sharing
from backend.store.store import Store
from benchmarks.services import S3
from tests.factories import checkpoint, settings


def test_it_is_used_again_by_the_processes_that_missed_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("s3fs")
    pytest.importorskip("moto.server")
    with S3() as server:
        for name, value in server.environ.items():
            monkeypatch.setenv(name, value)
        shared = {"DATABASE_URL": f"sqlite:///{tmp_path}/shared.db", "CAPTIONER_IMAGES_URL": server.url}

        def machine(name: str) -> tuple[Path, Sharing]:
            given = settings(tmp_path / name, **shared)
            store = Store(given.database_url, given.data_dir)
            store.migrate()
            return given.data_dir / "models", Sharing(given, store)

        (ours, here), (theirs, there) = machine("here"), machine("there")
        here.share(checkpoint(ours / "v1"))
        server.stop()
        with pytest.raises(
            UnreachableImageError, match=r"^The store s3://captioner/shared .* cannot be reached: .*\.$"
        ):
            there.fetch(theirs / "v1")
        with pytest.raises(UnreachableImageError):
            here.share(checkpoint(ours / "v2"))
        assert [path for path in tmp_path.glob("there/models/**/*") if path.is_file()] == [], "nothing is half there"
        server.start()
        here.share(ours / "v2")
        for version in ("v1", "v2"):
            there.fetch(theirs / version)
            assert (theirs / version / "config.json").read_bytes() == (ours / version / "config.json").read_bytes()
