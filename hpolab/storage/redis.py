"""Optuna's journal on a Redis server: nothing told is lost, doubled, or waited for without end.

The journal is one Redis list. ``JournalStorage`` asks for its entries by number, and a list's
index is that number: a range of entries is one request, whatever its length, and how many there
are is known without a counter beside the list that could disagree with it. (A key for each entry,
as in Optuna's ``JournalRedisBackend``, costs a request for each; the ids of a stream would have to
be counted off first.)

An entry is the JSON array ``[batch, log]``: ``log`` is Optuna's, ``batch`` a random word that all
entries of one append share. It lets the server tell an append that is sent a second time, because
the reply to the first was lost, from a new one; and a process tell the journal that it has read
from another that stands in its place. So the list needs nothing beside itself, and whatever a
failover or a flush takes away, it takes both.
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
import socket
import time
from functools import cache
from itertools import chain, repeat
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn, TypeVar, final

from optuna.storages.journal import BaseJournalBackend

from hpolab.errors import StorageUnavailable, needs
from hpolab.logs import get_logger

with needs("`RedisJournalBackend`", "redis", "redis"):
    import redis
    from redis.backoff import NoBackoff
    from redis.retry import Retry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

__all__ = ["DEFAULT_KEY", "RedisJournalBackend", "check_server"]

DEFAULT_KEY = "hpolab:journal"

# How long a read or a write goes on trying while the server restarts or another takes its place.
PATIENCE_SECONDS = 60.0

# After this much silence one attempt counts as failed. Since a write that is repeated is stored
# once, a server that was merely slow does no harm.
REPLY_TIMEOUT_SECONDS = 5.0

# Entries in one reply: about 200 kB of an ordinary study, which the server serves in half a
# millisecond. Longer replies are no faster and keep its other clients waiting.
CHUNK = 1000

# Firewalls forget connections that are silent for some minutes, and an epoch may take hours. Where
# the system has no such name its own interval holds: two hours, as a rule.
_KEEPALIVE = {
    getattr(socket, name): seconds
    for name, seconds in (("TCP_KEEPIDLE", 60), ("TCP_KEEPINTVL", 15))
    if hasattr(socket, name)
}

# LPOS, by which a repeated append is recognized, is this old.
_OLDEST_SERVER = (6, 0, 6)

# The first is free: a connection that the server has closed in the meantime is simply reopened.
_PAUSES_SECONDS = (0.0, 0.05, 0.1, 0.2, 0.4, 0.8, 1.0)

# Refusals that pass: a long script, a replica on its way to be the primary, one that has lost its
# primary, a primary that has lost its replicas. Before Redis 7 a script buries them in its message.
_PASSING_REFUSAL = re.compile(r"\b(BUSY|READONLY|MASTERDOWN|NOREPLICAS)\b")

_logger = get_logger(__name__)

_T = TypeVar("_T")


class _Place(NamedTuple):
    """How far a process has seen the journal: the number of entries, and the last one's batch."""

    n_entries: int
    batch: str


# Both scripts begin with this. Batches are never used again, so if the last entry that the process
# has seen stands where it stood, then so does everything before it.
_CHECK = """
local key, n_seen, batch = KEYS[1], tonumber(ARGV[1]), ARGV[2]
local length = redis.call('LLEN', key)
if n_seen > 0 then
  local last, head = redis.call('LINDEX', key, n_seen - 1), '["' .. batch .. '",'
  if not last or string.sub(last, 1, #head) ~= head then
    return redis.error_reply('CUT ' .. length)
  end
end
"""

# ARGV from 3: the first entry, and how many at most. The entries come back as one JSON array,
# behind their number: redis-py and the parser take that in three times as fast as one by one.
_READ = f"""{_CHECK}
local entries = redis.call('LRANGE', key, ARGV[3], ARGV[3] + ARGV[4] - 1)
table.insert(entries, 1, #entries)
return '[' .. table.concat(entries, ',') .. ']'
"""

# As `_READ`, but for params and reports, which are the most: returns how many entries there are
# with them, and the text, in which the last of all comes first, wanted or not.
_SKIM = f"""{_CHECK}
local entries = redis.call('LRANGE', key, ARGV[3], ARGV[3] + ARGV[4] - 1)
local kept = {{entries[#entries]}}
for _, entry in ipairs(entries) do
  if not string.find(entry, '^%["[^"]*",{{"op_code":[57],') then table.insert(kept, entry) end
end
table.insert(kept, 1, #kept)
return {{#entries, '[' .. table.concat(kept, ',') .. ']'}}
"""

# ARGV from 3: the entries of one batch. Returns how many entries there are up to their end. What
# this process has not seen is searched for the last of them even at the first attempt: a request
# that seemed lost may arrive after its repetition. Lua unpacks some thousands at most.
_APPEND = f"""{_CHECK}
if length > n_seen then
  local place = redis.call('LPOS', key, ARGV[#ARGV], 'RANK', -1, 'MAXLEN', length - n_seen)
  if place then return place + 1 end
end
for i = 3, #ARGV, 1000 do
  length = redis.call('RPUSH', key, unpack(ARGV, i, math.min(i + 999, #ARGV)))
end
return length
"""

# ARGV from 3: how many entries there must be, and one entry. Returns the length behind it, also
# at a repetition; 0 if there are others.
_APPEND_AT = f"""{_CHECK}
if length > n_seen then
  local place = redis.call('LPOS', key, ARGV[4], 'RANK', -1, 'MAXLEN', length - n_seen)
  if place then return place + 1 end
end
if length ~= tonumber(ARGV[3]) then return 0 end
return redis.call('RPUSH', key, ARGV[4])
"""

# Made once: `json.dumps` with separators makes one for each call.
_encode = json.JSONEncoder(separators=(",", ":")).encode


@final
class RedisJournalBackend(BaseJournalBackend):
    """Keeps Optuna's journal in a Redis list; for `optuna.storages.JournalStorage`.

    An append is one round trip, however many entries it has, and is stored exactly once also when
    the connection breaks before the reply. A read is one round trip for every 1,000 entries. There
    are no snapshots: unpickling what a server hands out runs whatever code is in it, and without
    them 10,000 trials of ten reports each are replayed in about a second.

    While the server is away (restart, failover) reads and appends wait for it, with one warning,
    and give up after ``patience_seconds``. A journal that is shorter than what this process has
    read of it, or another, is refused: the server was flushed, has come back without its data, or
    a failover has dropped the last writes.

    The server is Redis 6.0.6 or newer, or one that speaks the same (Valkey), not in cluster mode.
    It may be shared by threads, by processes that are forked, and pickled; a pickle holds the
    password.

    Args:
        url: ``redis://user:password@host:port/0``, ``rediss://`` or ``unix://``, with redis-py's
            options in the query (``?socket_timeout=30``). Nothing is connected before it is used.
        key: The list's key. Processes share the studies of one server, database and key.
        patience_seconds: How long a call waits for the server.

    Raises:
        StorageUnavailable: From reading and appending, if the server is not back in time or
            refuses, or if the key holds anything but this journal. No message has the password.

    Example:
        >>> RedisJournalBackend("redis://ada:secret@db.example.org:6379/2")
        RedisJournalBackend('redis://db.example.org:6379/2', key='hpolab:journal')
    """

    def __init__(
        self, url: str, *, key: str = DEFAULT_KEY, patience_seconds: float = PATIENCE_SECONDS
    ) -> None:
        self._url = url
        self._key = key
        self._patience_seconds = patience_seconds
        self._seen = _Place(0, "")
        self._connect()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({_address(self._client)!r}, key={self._key!r})"

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_client"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._connect()

    def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:
        """Yield the logs from a number on, also those appended meanwhile.

        Args:
            log_number_from: The number of the first, counted from 0.
        """
        first, is_end = log_number_from, False
        while not is_end:
            entries = _parse(self._call(_READ, first, CHUNK))
            if entries is None:
                raise self._damaged(first)
            first += len(entries)
            is_end = len(entries) < CHUNK
            if entries:
                self._advance(_Place(first, entries[-1][0]))
            for _, log in entries:
                yield log

    def skim_logs(self, log_number_from: int) -> Iterator[tuple[int, dict[str, Any] | None]]:
        """Yield the logs from a number on, but for params and reports.

        Yields:
            How many logs have been looked at, and the log; at the end None.
        """
        first, is_end = log_number_from, False
        while not is_end:
            n_entries, text = self._call(_SKIM, first, CHUNK)
            entries = _parse(text)
            if entries is None:
                raise self._damaged(first)
            first += n_entries
            is_end = n_entries < CHUNK
            if entries:
                self._advance(_Place(first, entries[0][0]))
            for _, log in entries[1:]:
                yield first, log
        yield first, None

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Append logs, all of them together and exactly once.

        Args:
            logs: What `json.dumps` takes.
        """
        if not logs:
            return
        batch = secrets.token_urlsafe(9)
        n_entries = self._call(_APPEND, *(_encode([batch, log]) for log in logs))
        self._advance(_Place(n_entries, batch))

    def append_logs_at(self, logs: list[dict[str, Any]], n_logs: int) -> bool:
        """Append one log exactly once, if there are ``n_logs`` by then; tell whether.

        Args:
            logs: The log, in a list.
            n_logs: How many precede it.
        """
        (log,) = logs
        batch = secrets.token_urlsafe(9)
        n_entries = self._call(_APPEND_AT, n_logs, _encode([batch, log]))
        if n_entries:
            self._advance(_Place(n_entries, batch))
        return bool(n_entries)

    def _connect(self) -> None:
        keepalive = {"socket_keepalive": True, "socket_keepalive_options": _KEEPALIVE}
        self._client = redis.Redis.from_url(
            self._url,
            socket_connect_timeout=REPLY_TIMEOUT_SECONDS,
            socket_timeout=REPLY_TIMEOUT_SECONDS,
            # A PING after each silence would find a dead connection no sooner than the call does.
            health_check_interval=0,
            # redis-py's own retries count attempts; `_insist` counts seconds.
            retry=Retry(NoBackoff(), 0),
            **({} if self._url.startswith("unix://") else keepalive),
        )
        # Set here because the URL's options win above. Only bytes bring garbage as far as `_parse`.
        self._client.connection_pool.connection_kwargs["decode_responses"] = False

    def _advance(self, place: _Place) -> None:
        # Threads may undo one another's step. An earlier place is as true, only a weaker check.
        if place.n_entries > self._seen.n_entries:
            self._seen = place

    def _call(self, script: str, *arguments: str | int) -> Any:
        # Put together once: a repetition must send exactly what the first attempt has sent.
        everything = (1, self._key, *self._seen, *arguments)
        return self._insist(lambda: self._evaluate(script, everything))

    def _evaluate(self, script: str, arguments: Sequence[str | int]) -> Any:
        pool = self._client.connection_pool
        try:
            return self._answer_to(script, arguments)
        except redis.RedisError:
            raise  # whose connection redis-py has closed, unless it is an answer
        except BaseException:
            # Ctrl-C between a request and its reply: the next one would be given this reply.
            pool.disconnect(inuse_connections=False)
            raise

    def _answer_to(self, script: str, arguments: Sequence[str | int]) -> Any:
        # As `Redis.evalsha` does it, less what that does around it: 26 µs a call instead of 42.
        pool = self._client.connection_pool
        connection: Any = pool.get_connection()
        try:
            connection.send_command("EVALSHA", _sha(script), *arguments)
            try:
                return connection.read_response()
            except redis.exceptions.NoScriptError:  # the server was started again
                connection.send_command("EVAL", script, *arguments)
                return connection.read_response()
        finally:
            pool.release(connection)

    def _insist(self, request: Callable[[], _T]) -> _T:
        """Repeat a request until the server answers it, refuses it for good, or time is up."""
        deadline = time.monotonic() + self._patience_seconds
        for n_retries, pause in enumerate(chain(_PAUSES_SECONDS, repeat(_PAUSES_SECONDS[-1]))):
            try:
                return request()
            except redis.RedisError as error:
                reason, passes = _reason(error, self._client), _is_passing(error)
            # Raised out here, so that the foreign exception is not kept as the context of ours.
            if not passes:
                self._refuse(reason)
            if time.monotonic() + pause > deadline:
                break
            if n_retries == 1:
                _logger.warning(
                    f"waiting for Redis at {_address(self._client)}, for up to "
                    f"{self._patience_seconds:g} seconds: {reason}"
                )
            # After a failover the old primary may still answer; its name leads to the new one.
            self._client.connection_pool.disconnect(inuse_connections=False)
            time.sleep(pause)
        raise StorageUnavailable(
            f"Redis at {_address(self._client)} has not answered for "
            f"{self._patience_seconds:g} seconds: {reason}. All that was told before is as safe as "
            "the server keeps it; what was being told may have arrived. Start again when it runs."
        )

    def _refuse(self, reason: str) -> NoReturn:
        if reason.startswith("CUT "):
            raise self._lost(n_left=int(reason.removeprefix("CUT ")))
        if "WRONGTYPE" in reason:
            raise StorageUnavailable(
                f"The key {self._key!r} of Redis at {_address(self._client)} holds something other "
                "than a journal; it was left as it is. Use another database, or rename that key."
            )
        raise StorageUnavailable(f"Redis at {_address(self._client)} refuses: {reason}.")

    def _lost(self, *, n_left: int) -> StorageUnavailable:
        n_entries = self._seen.n_entries
        if n_left >= n_entries:
            now = "its end is no longer what this process has read or written"
        elif n_left > 0:
            now = f"{n_left} of its {n_entries} entries are left"
        else:
            now = f"all its {n_entries} entries are gone"
        return StorageUnavailable(
            f"The journal {self._key!r} of Redis at {_address(self._client)} was cut or replaced "
            f"while it was in use: {now}. The database was flushed, the server came back without "
            "its data, or a failover dropped the last writes. Nothing was written to what is there "
            "now; start again to resume from that."
        )

    def _damaged(self, first: int) -> StorageUnavailable:
        raw: Any = self._insist(lambda: self._client.lrange(self._key, first, first + CHUNK - 1))
        is_sound = [_parse(b"[1,%b]" % entry) is not None for entry in raw]
        number = first + (is_sound.index(False) if False in is_sound else 0)
        return StorageUnavailable(
            f"Entry {number} of the list {self._key!r} of Redis at {_address(self._client)} is not "
            "one of a journal; it was left as it is. Look at it with `LINDEX "
            f"{self._key} {number}`; if another program writes to this key, use another database."
        )


def check_server(client: redis.Redis) -> None:
    """Refuse a server that is too old; warn of one that may lose what it is told.

    Args:
        client: Connected to the server. One that does not let itself be asked passes.

    Raises:
        StorageUnavailable: If it is older than Redis 6.0.6.
    """
    info = _ask(client.info)
    address = _address(client)
    version = str(info.get("redis_version", ""))
    if re.match(r"\d+\.\d+\.\d+", version) and _as_numbers(version) < _OLDEST_SERVER:
        raise StorageUnavailable(
            f"Redis at {address} is too old: it must be "
            f"{'.'.join(map(str, _OLDEST_SERVER))} or newer, got {version}."
        )
    save_points = _ask(lambda: client.config_get("save")).get("save")
    # A server that keeps its settings to itself (rented ones do) may have save points.
    if info.get("aof_enabled") == 0 and save_points == "":
        _logger.warning(
            f"Redis at {address} keeps nothing on disk: all studies are lost when it stops. "
            "Set `appendonly yes` in its configuration, or at once: "
            "`redis-cli config set appendonly yes`."
        )
    if info.get("maxmemory") and str(info.get("maxmemory_policy")).startswith("allkeys-"):
        _logger.warning(
            f"Redis at {address} deletes keys when its memory is full, so all studies may vanish "
            "at once. Set `maxmemory-policy noeviction` in its configuration."
        )


@cache
def _sha(script: str) -> str:
    return hashlib.sha1(script.encode(), usedforsecurity=False).hexdigest()


def _as_numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:3])


def _ask(question: Callable[[], Any]) -> Mapping[str, Any]:
    try:
        answer: Mapping[str, Any] = question()
    except redis.ResponseError:
        return {}
    return answer


def _parse(text: bytes) -> list[tuple[str, dict[str, Any]]] | None:
    """The entries that `_READ` has returned; None if one of them is not a journal's."""
    try:
        n_entries, *entries = json.loads(text)
    except (ValueError, RecursionError):
        return None
    # Text that is two entries, or half of one, cannot make up the number.
    is_sound = len(entries) == n_entries and all(
        type(entry) is list and len(entry) == 2 and type(entry[0]) is str and type(entry[1]) is dict
        for entry in entries
    )
    return entries if is_sound else None


def _is_passing(error: redis.RedisError) -> bool:
    if isinstance(error, (redis.AuthenticationError, redis.exceptions.AuthorizationError)):
        return False
    return isinstance(
        error,
        (
            redis.ConnectionError,  # also the parent of BusyLoadingError
            redis.TimeoutError,
            redis.ReadOnlyError,
            redis.exceptions.MasterDownError,
        ),
    ) or bool(_PASSING_REFUSAL.search(str(error)))


def _address(client: redis.Redis) -> str:
    # Made of what may be shown, not of the URL without what may not.
    options = client.connection_pool.connection_kwargs
    db = options.get("db") or 0
    if "path" in options:
        return f"unix://{options['path']}?db={db}"
    scheme = "rediss" if client.connection_pool.connection_class is redis.SSLConnection else "redis"
    return f"{scheme}://{options.get('host', 'localhost')}:{options.get('port', 6379)}/{db}"


def _reason(error: redis.RedisError, client: redis.Redis) -> str:
    reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
    password = client.connection_pool.connection_kwargs.get("password")
    return reason.replace(password, "***") if password else reason
