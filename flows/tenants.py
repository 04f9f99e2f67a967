"""Reads ``tenants.toml`` again when it changes, while a flow runs; a faulty file is refused and the old one stays."""

import threading
from pathlib import Path
from typing import Final

import structlog
from prometheus_client import Counter

from flows.settings.tenants import CurrentTenants, read_tenants, tenants_file
from schemas.errors import ConfigError

_log = structlog.get_logger(__name__)

POLL_S: Final = 2.0
_READ: Final = Counter(
    "attune_tenants_read_total", "Changes of tenants.toml in a running flow, by what became of them", ["result"]
)

_Stamp = tuple[int, int, int] | None
"""What tells one version of a file from another: time, size and place on the disk; None if it is not there."""


class TenantsWatcher:
    """Looks every two seconds whether the file is another one. Polling, because it may be a link into a mounted volume.

    What was read last holds until a whole and faultless file takes its place; that one is gone is a fault, too.
    """

    def __init__(self, path: Path | None, rules: Path | None, poll_s: float = POLL_S) -> None:
        """Read the file for the first time; the arguments are those of ``read_tenants``.

        Raises:
            ConfigError: it can't be read or doesn't fit.
        """
        self._path = path
        self._rules = rules
        self._poll_s = poll_s
        # In front of the reading: what is written between the two is a change.
        self._seen = self._stamp()
        self.current = CurrentTenants(read_tenants(path, rules))
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="tenants", daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self) -> None:
        """Look no more."""
        self._stop.set()
        self._thread.join()

    def look(self) -> bool:
        """Read the file again if it has changed; return whether another one holds now."""
        stamp = self._stamp()
        if stamp == self._seen:
            return False
        self._seen = stamp
        file = str(tenants_file(self._path))
        try:
            if stamp is None:
                raise ConfigError(f"{file}: expected a file that is there")
            tenants = read_tenants(self._path, self._rules)
        except ConfigError as error:
            _READ.labels("refused").inc()
            _log.error("tenants' settings refused, the old ones stay", file=file, faults=str(error).splitlines())
            return False
        self.current.become(tenants)
        _READ.labels("taken").inc()
        _log.info("tenants' settings read again", file=file)
        return True

    def _run(self) -> None:
        while not self._stop.wait(self._poll_s):
            try:
                self.look()
            except Exception:  # noqa: BLE001 - whatever it is: who switches a tenant off later must be heard
                _READ.labels("refused").inc()
                _log.exception("tenants' settings can't be read, the old ones stay")

    def _stamp(self) -> _Stamp:
        try:
            found = tenants_file(self._path).stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size, found.st_ino
