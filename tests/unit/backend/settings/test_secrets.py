"""What no log may show."""

from __future__ import annotations

import pytest

from backend.settings import Settings


@pytest.mark.parametrize(
    ("url", "password"),
    [
        ("postgresql+psycopg://ann:p[w@db/captioner", "p[w"),
        ("postgresql+psycopg://ann:p/w#@db:5432/captioner", "p/w#"),
        ("postgresql+psycopg://ann:p%2Fw@db/captioner", "p/w"),
        ("sqlite:////data/captioner.db", None),
    ],
)
def test_the_password_of_a_database_is_a_secret_whatever_it_is_made_of(url: str, password: str | None) -> None:
    secrets = Settings.from_env({"DATABASE_URL": url}).secrets
    assert (password in secrets) if password else not secrets
