"""What Alembic runs: the migrations, over the connection that `Database.migrate` hands in, within its transaction."""

import logging

from alembic import context

from backend.store.tables import metadata

logging.getLogger("alembic").setLevel(logging.WARNING)

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,  # SQLite cannot alter most of a table in place
)
context.run_migrations()
