"""Which tokens hold no longer, though they are not expired: a file that is read again when it changes."""

import tomllib
from pathlib import Path

import msgspec
import structlog

from schemas.errors import ConfigError
from sinks.websocket.principal import Principal

log = structlog.get_logger(__name__)


class _List(msgspec.Struct, forbid_unknown_fields=True):
    tokens: set[str] = msgspec.field(default_factory=set)
    subjects: dict[str, set[str]] = msgspec.field(default_factory=dict)


class Revoked:
    """The tokens (by ``jti``) and the users (by tenant) that may not connect; without a path nobody.

    ``read`` again now and then: a file that can't be used any more leaves what was last read in force.

    Raises:
        ConfigError: the file can't be used at the start.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._list = _List()
        self._seen: tuple[int, int, int] | None = None
        if path is not None:
            self._load(path)

    def __call__(self, who: Principal) -> bool:
        """Return whether this one's token was revoked."""
        return (who.token_id is not None and who.token_id in self._list.tokens) or (
            who.tenant is not None and who.user in self._list.subjects.get(who.tenant, ())
        )

    def read(self) -> None:
        """Read the file again if it is another one than last time."""
        if self._path is None:
            return
        try:
            self._load(self._path)
        except ConfigError as error:
            log.error("the list of revoked tokens can't be read, the one before holds on", error=str(error))  # noqa: TRY400 - the message says it all

    def _load(self, path: Path) -> None:
        try:
            stat = path.stat()
            seen = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
            if seen == self._seen:
                return
            self._seen = seen
            self._list = msgspec.convert(tomllib.loads(path.read_text(encoding="utf-8")), _List)
        except OSError as error:
            raise ConfigError(f"gateway.revoked: {path} can't be read ({error.strerror})") from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError, msgspec.ValidationError) as error:
            raise ConfigError(
                f'gateway.revoked: {path}: expected tokens = ["jti", ...] and, in a table subjects, tenant = ["user",'
                f" ...], got {error}"
            ) from error
