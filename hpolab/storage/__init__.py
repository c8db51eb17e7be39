"""Where studies live: one URL for each kind of storage, and nothing told is lost in any."""

from __future__ import annotations

from hpolab.storage.promises import Promise, StoragePromises, check
from hpolab.storage.redaction import redact
from hpolab.storage.url import DEFAULT_URL, open_storage

__all__ = ["DEFAULT_URL", "Promise", "StoragePromises", "check", "open_storage", "redact"]
