"""Python imports this module at its start where its folder is in PYTHONPATH: so that processes that draft wait shorter
for what must have time to happen, and do the same in all else.
"""

from backend.drafts import chunks
from backend.store import lease
from backend.web import watcher

lease.RENEW_SECONDS, lease.LEASE_SECONDS = 0.5, 6.0
lease.has_expired.__defaults__ = (lease.LEASE_SECONDS,)
watcher.PENDING_SECONDS = 0.5
chunks.BATCH_SECONDS = 1.0
