"""From a URL to an Optuna storage, and from whatever goes wrong on the way to one clear line.

Passwords are in URLs, and drivers quote URLs in their errors. So foreign exceptions end in this
file: what they say goes on without the password, they themselves do not, not even as a context.
"""

from __future__ import annotations

import importlib
import os
import re
import sqlite3
import warnings
import weakref
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit, urlunsplit

from optuna.exceptions import ExperimentalWarning, OptunaError
from optuna.storages import (
    BaseStorage,
    InMemoryStorage,
    RDBStorage,
)

from hpolab.errors import (
    InvalidArgument,
    StorageNotFound,
    StorageUnavailable,
    needs,
    one_of,
)
from hpolab.keywords import checks_keywords
from hpolab.logs import get_logger
from hpolab.storage.database import DatabaseStorage
from hpolab.storage.journal import ForkSafeJournalStorage, JournalFile
from hpolab.storage.location import JOURNAL_HEAD, url_of
from hpolab.storage.paths import path_of, why_unusable
from hpolab.storage.redaction import reason_of, redact
from hpolab.storage.skimmed import SkimmedJournal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from urllib.parse import SplitResult

    import sqlalchemy
    from optuna.storages.journal import BaseJournalBackend

__all__ = ["DEFAULT_URL", "STORAGE_VARIABLE", "default_url", "open_storage"]

DEFAULT_URL = "sqlite:///hpolab.db"
"""The storage of whoever names none: a file in the folder in which Python was started."""

STORAGE_VARIABLE = "HPOLAB_STORAGE"
"""The environment variable that names another default, for scripts and the command line alike."""

_logger = get_logger(__name__)

# How long a server may take to answer the first time. Whole seconds: libpq takes no fractions.
ANSWER_TIMEOUT_SECONDS = 5


def default_url() -> str:
    """Return the URL of the storage that is used where none is named."""
    return url_of(os.environ.get(STORAGE_VARIABLE) or DEFAULT_URL)


@checks_keywords()
def open_storage(
    url: str | os.PathLike[str] | BaseStorage | None = None, *, create: bool = True
) -> BaseStorage:
    """Open the storage at a URL, creating it if it is new.

    ==================================  ==========================================================
    URL                                 storage
    ==================================  ==========================================================
    ``sqlite:///study.db``              a SQLite file, relative; ``sqlite:////abs/study.db``
    ``journal:///study.log``            an append-only file, relative or absolute in the same way
    ``redis://user:password@host/0``    Redis; also ``rediss://`` (TLS) and ``unix:///redis.sock``
    ``postgresql://user@host/db``       PostgreSQL; also ``postgres://``
    ``mysql://user@host/db``            MySQL
    ``grpc://host:port``                a server run by ``optuna.storages.run_grpc_proxy_server``
    ``memory://``                       this process only; each call opens a new, empty storage
    ==================================  ==========================================================

    A user name or a password with special characters is percent-encoded: ``p@ss`` is ``p%40ss``.
    The path of a file stands as it is: nothing in it is decoded or expanded.

    Args:
        url: The URL; or the path of a file, ``study.db`` or ``study.log``. ``None`` is that of the
            environment variable HPOLAB_STORAGE, or, where it is not set, ``DEFAULT_URL``. A storage
            that is open already comes back as it is.
        create: Whether a file or the tables of a database may be new; False to read what is there.

    Returns:
        The storage, for ``optuna.create_study(storage=...)``, which adds Optuna's cache to it
        where the storage has none.

    Raises:
        InvalidType: If ``url`` is neither a string, a path nor a storage.
        InvalidArgument: If the URL breaks the grammar above.
        MissingExtra: If the driver is not installed.
        StorageUnavailable: If the folder is missing, the file is read-only or of another kind,
            or the server does not answer or refuses the password. No message shows a password.
        StorageNotFound: If there is no storage yet, without ``create``.

    Example:
        >>> import optuna
        >>> study = optuna.create_study(storage=open_storage("memory://"))
        >>> study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=3)
        >>> len(study.trials)
        3
        >>> open_storage("postgres://ada:secret@localhost")
        Traceback (most recent call last):
        hpolab.errors.InvalidArgument: `storage` must be of the form \
'postgresql://user:password@host:port/database', with special characters percent-encoded, \
got 'postgres://ada:***@localhost'.
    """
    if isinstance(url, BaseStorage):
        return url
    url = default_url() if url is None else url_of(url)
    scheme = url.partition("://")[0]
    if not scheme.replace("+", "").isalnum():
        raise InvalidArgument(
            f"`storage` must be a URL such as {DEFAULT_URL!r}, got {redact(url)!r}."
        )
    storage = _OPENERS[one_of("storage", scheme, _OPENERS)](url, create)
    if isinstance(storage, RDBStorage):
        # Optuna never closes an engine's connections, and drivers warn of one dropped open. Not at
        # exit: in a forked child that would close the connections of its parent.
        weakref.finalize(storage, storage.engine.dispose).atexit = False
    return storage


def open_to_look(url: str | os.PathLike[str]) -> BaseStorage:
    """Open a storage to see how far its studies are; of a journal, trials are not replayed for it.

    Args:
        url: As for `open_storage`.

    Returns:
        The storage, for `hpolab.studies.summary.summarize`.

    Raises:
        HpolabError: As from `open_storage` without ``create``.
    """
    url = url_of(url)
    scheme = url.partition("://")[0]
    if scheme in _SKIMMED:
        return _SKIMMED[scheme](url, False, True)
    return open_storage(url, create=False)


def _open_memory(url: str, create: bool) -> BaseStorage:
    if url != "memory://":
        raise _malformed(url, "memory://")
    return InMemoryStorage()


def _open_sqlite(url: str, create: bool) -> BaseStorage:
    # Imported here, because SQLAlchemy takes long to import; Optuna puts it off as well.
    from sqlalchemy.exc import SQLAlchemyError

    from hpolab.storage.sqlite import SQLiteStorage, has_studies, is_sqlite

    if url in ("sqlite://", "sqlite:///", "sqlite:///:memory:"):
        raise InvalidArgument(f"`storage` must name a file or be 'memory://', got {url!r}.")
    path = _file(
        url,
        "a SQLite database",
        is_sqlite,
        "Name another file; of a damaged one `sqlite3 FILE .recover` saves what can be read",
        create=create,
    )

    def opening() -> BaseStorage:
        if not create and not has_studies(path):
            raise _nothing_there(url)
        return SQLiteStorage(path)

    return _at_the_border(
        opening,
        # RuntimeError is how Optuna refuses the tables of another version.
        (SQLAlchemyError, OptunaError, sqlite3.Error, RuntimeError, OSError),
        url,
        "Check that it is an intact study file of this version of Optuna",
    )


def _open_journal(url: str, create: bool, skim: bool = False) -> BaseStorage:
    path = _file(url, "an Optuna journal", _is_journal, create=create)
    return _replayed(url, lambda: JournalFile(path), skim)


def _open_redis(url: str, create: bool, skim: bool = False) -> BaseStorage:
    address = _address(url, "redis://user:password@host:port/0")
    # redis-py would take any other path for database 0.
    if not re.fullmatch(r"/?\d*", address.path):
        raise _malformed(url, "redis://user:password@host:port/0")
    return _open_redis_server(url, skim)


def _open_redis_socket(url: str, create: bool, skim: bool = False) -> BaseStorage:
    if not url.partition("?")[0].removeprefix("unix://").startswith("/"):
        raise _malformed(url, "unix:///folder/redis.sock?db=0")
    return _open_redis_server(url, skim)


def _open_redis_server(url: str, skim: bool) -> BaseStorage:
    redis = _driver(url, "redis", "redis", "redis")
    from hpolab.storage.redis import RedisJournalBackend, check_server

    patience = {
        "socket_connect_timeout": ANSWER_TIMEOUT_SECONDS,
        "socket_timeout": ANSWER_TIMEOUT_SECONDS,
    }

    def opening() -> BaseStorage:
        with redis.Redis.from_url(url, **patience) as client:
            # One that is still loading its data has understood; the backend waits for it.
            with suppress(redis.BusyLoadingError):
                client.ping()
            check_server(client)
        return _replayed(url, lambda: RedisJournalBackend(url), skim)

    return _at_the_border(
        # redis-py refuses options by TypeError and ValueError.
        opening,
        (redis.RedisError, OSError, TypeError, ValueError),
        url,
        _CHECK_THE_SERVER,
    )


def _open_postgresql(url: str, create: bool) -> BaseStorage:
    _driver(url, "psycopg", "psycopg", "postgres")
    lock = "SELECT pg_advisory_xact_lock(hashtext('hpolab'))"
    return _open_database(url, "postgresql", "psycopg", lock, create)


def _open_mysql(url: str, create: bool) -> BaseStorage:
    _driver(url, "pymysql", "PyMySQL", "mysql")
    return _open_database(url, "mysql", "pymysql", "SELECT GET_LOCK('hpolab', 60)", create)


def _open_database(url: str, dialect: str, driver: str, lock: str, create: bool) -> BaseStorage:
    import sqlalchemy
    from sqlalchemy.exc import SQLAlchemyError

    address = _database_address(url, dialect).set(drivername=f"{dialect}+{driver}")
    # In the URL the user's own setting would be overruled by ours.
    own = {"connect_timeout": ANSWER_TIMEOUT_SECONDS}
    patience = {key: value for key, value in own.items() if key not in address.query}
    # PyMySQL's connect_timeout ends with the connection; the greeting may still never come.
    greeting = {"read_timeout": ANSWER_TIMEOUT_SECONDS} if driver == "pymysql" else {}

    def connect(options: dict[str, int]) -> sqlalchemy.Connection:
        engine = sqlalchemy.create_engine(
            address, poolclass=sqlalchemy.NullPool, connect_args=options
        )
        return engine.connect()

    def opening() -> BaseStorage:
        connect(patience | greeting).close()
        with connect(patience) as connection:
            if not create and not sqlalchemy.inspect(connection).has_table("alembic_version"):
                raise _nothing_there(url)
            # Held while the tables are created: processes that create them at once fail, and
            # "IF NOT EXISTS" does not help against one another. The lock ends with the connection.
            connection.execute(sqlalchemy.text(lock))
            return DatabaseStorage(
                # RDBStorage fills the URL in as a format string.
                address.render_as_string(hide_password=False).replace("{", "{{").replace("}", "}}"),
                engine_kwargs=_FEW_CONNECTIONS | {"connect_args": patience},
            )

    return _at_the_border(
        opening,
        # Drivers refuse options by TypeError and ValueError.
        (SQLAlchemyError, OptunaError, RuntimeError, OSError, TypeError, ValueError),
        url,
        _CHECK_THE_SERVER,
    )


def _open_grpc(url: str, create: bool) -> BaseStorage:
    _driver(url, "grpc", "grpcio", "grpc")
    _driver(url, "google.protobuf", "protobuf", "grpc")
    address = _address(url, "grpc://host:port")
    bare = (address.scheme, address.netloc.rpartition("@")[2], "", "", "")
    port = address.port
    if port is None or urlunsplit(bare) != url.rstrip("/"):
        raise _malformed(url, "grpc://host:port")
    # Imported here, as it needs gRPC.
    from hpolab.storage.grpc_proxy import GrpcStorage

    # urlsplit takes the brackets from an IPv6 address; Optuna joins host and port by a colon.
    host = address.netloc.rpartition(":")[0]

    def opening() -> BaseStorage:
        with _experimental():
            storage = GrpcStorage(host=host, port=port)
        try:
            storage.wait_server_ready(timeout=ANSWER_TIMEOUT_SECONDS)
        except OSError:
            storage.close()
            raise
        return storage

    return _at_the_border(
        opening, (OSError,), url, "Check that optuna.storages.run_grpc_proxy_server runs there"
    )


# PostgreSQL takes 100 in all by default. A process keeps one, and takes a second while two of its
# threads are in a transaction at once; others wait for these. Optuna's check of the tables, at the
# opening, needs the second: it asks for one while it holds one.
_FEW_CONNECTIONS = {
    "pool_size": 1,
    "max_overflow": 1,
    "pool_timeout": 60,
    # Servers and firewalls drop idle connections, and trials can take hours.
    "pool_pre_ping": True,
}

_OPENERS: dict[str, Callable[[str, bool], BaseStorage]] = {
    "grpc": _open_grpc,
    "journal": _open_journal,
    "memory": _open_memory,
    "mysql": _open_mysql,
    "postgres": _open_postgresql,
    "postgresql": _open_postgresql,
    "redis": _open_redis,
    "rediss": _open_redis,
    "sqlite": _open_sqlite,
    "unix": _open_redis_socket,
}

_SKIMMED: dict[str, Callable[[str, bool, bool], BaseStorage]] = {
    "journal": _open_journal,
    "redis": _open_redis,
    "rediss": _open_redis,
    "unix": _open_redis_socket,
}

_CHECK_THE_SERVER = "Check that the server runs there and takes this user, password and database"


def _file(
    url: str,
    kind: str,
    is_of_kind: Callable[[Path], bool],
    advice: str = "Name another file",
    *,
    create: bool,
) -> Path:
    """The file that a URL names, after every check that needs no change to it."""
    path = path_of(url)
    found = why_unusable(path)
    if found is not None:
        raise _unavailable(url, *found)
    if not path.exists() and not create:
        raise _nothing_there(url, f"there is no such file as {str(path)!r}")
    if path.exists():
        if not is_of_kind(path):
            raise _unavailable(url, f"{str(path)!r} is not {kind}", advice)
        return path
    decoded = Path(unquote(str(path)))
    if decoded != path and decoded.is_file():
        # SQLAlchemy 2.1 decodes a URL, and so did an hpolab that left the path to it.
        _logger.warning(
            f"{str(path)!r} is new, though there is {str(decoded)!r}: a path stands as it is, and "
            "its %-signs are not decoded. For a study of that file, name that file."
        )
    return path


def _is_journal(path: Path) -> bool:
    with path.open("rb") as file:
        head = file.read(len(JOURNAL_HEAD))
    # A shorter one is what a crash in the very first write leaves.
    return JOURNAL_HEAD.startswith(head)


def _address(url: str, form: str) -> SplitResult:
    try:
        address = urlsplit(url)
        behind = address.path + address.query + address.fragment
        # An @ there means that a character which should be encoded has cut the password short, and
        # the rest of it would be shown as a host.
        is_sound = bool(address.hostname) and address.port != 0 and "@" not in behind
    except ValueError:
        is_sound = False
    # Raised out here, because the text of a ValueError about the port may quote the password.
    if not is_sound:
        raise _malformed(url, form)
    return address


def _database_address(url: str, dialect: str) -> sqlalchemy.URL:
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        address = make_url(url)
        # A folder of sockets may stand in the query instead of the host.
        has_host = bool(address.host) or not {"host", "unix_socket"}.isdisjoint(address.query)
        is_sound = has_host and bool(address.database)
        # As in `_address`: there is no @ in a host, and hardly ever one in a database's name.
        is_sound = is_sound and "@" not in f"{address.host}{address.database}"
    except (ArgumentError, ValueError):
        is_sound = False
    # Raised out here, because those errors may quote the password.
    if not is_sound:
        raise _malformed(url, f"{dialect}://user:password@host:port/database")
    return address


def _driver(url: str, module: str, package: str, extra: str) -> Any:
    with needs(f"`storage={redact(url)!r}`", package, extra):
        return importlib.import_module(module)


@contextmanager
def _experimental() -> Iterator[None]:
    """Silence Optuna's mark on a class that hpolab offers as tested."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        yield


def _at_the_border(
    opening: Callable[[], BaseStorage],
    foreign: tuple[type[Exception], ...],
    url: str,
    advice: str,
) -> BaseStorage:
    """Open a storage; a foreign exception ends here and only its first line goes on."""
    try:
        return opening()
    except StorageUnavailable:
        raise
    except foreign as error:
        reason = reason_of(error, url)
    # Raised out here, so that the foreign exception is not kept as the context of ours.
    raise _unavailable(url, reason, advice)


def _replayed(url: str, open_backend: Callable[[], BaseJournalBackend], skim: bool) -> BaseStorage:
    """Open a journal's storage, which reads the journal from its beginning."""
    kind = SkimmedJournal if skim else ForkSafeJournalStorage
    return _at_the_border(
        lambda: kind(open_backend()),
        # How Optuna refuses an entry of an operation that it does not know, or without its fields.
        (AssertionError, KeyError, TypeError, ValueError),
        url,
        "Check that the journal is intact",
    )


def _nothing_there(url: str, reason: str = "no study was ever stored there") -> StorageNotFound:
    return StorageNotFound(
        f"Cannot open {redact(url)!r}: {reason}. No study is there to read; check the URL, or make "
        "one with `make_study`."
    )


def _unavailable(url: str, reason: str, advice: str) -> StorageUnavailable:
    return StorageUnavailable(f"Cannot open {redact(url)!r}: {reason.rstrip('.')}. {advice}.")


def _malformed(url: str, form: str) -> InvalidArgument:
    hint = ", with special characters percent-encoded" if "password" in form else ""
    return InvalidArgument(f"`storage` must be of the form {form!r}{hint}, got {redact(url)!r}.")
