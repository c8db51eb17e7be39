"""What do hpolab's storages cost, beside Optuna's own?

All of `storage_files.py` (SQLite, journal file), then all of `storage_redis.py`; about seven
minutes.

    python benchmarks/storage.py
"""

import storage_files
import storage_redis

if __name__ == "__main__":
    storage_files.main([])
    storage_redis.main([])
