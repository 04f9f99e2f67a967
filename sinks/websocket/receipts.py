"""Receipts: by them a client proves, to any gateway with the same secret, that an intervention was offered to it.

A gateway that was restarted does not know what the one before it offered, nor does one beside it that has read less.
What a client acknowledges must then come with the receipt that it got with the record.
"""

import hmac
import os
from collections.abc import Sequence
from typing import Final

HOLDS_MS: Final = 24 * 60 * 60 * 1000
"""How long a receipt holds, from the intervention's own time: the flow forgets interventions after a day by default."""

DIGITS: Final = 32
SECRET_BYTES: Final = 32


class Receipts:
    """Writes receipts with the first secret and takes those of all. Without one it makes its own, for this run.

    The user is the one that an intervention is for, None for everybody in the session. Times are milliseconds since
    1970 UTC.

    >>> receipts = Receipts([b"a secret"])
    >>> receipt = receipts.write("acme", "s1", None, "acme/s1/7/i", 1_000)
    >>> [receipts.holds(receipt, "acme", session, None, "acme/s1/7/i", 2_000) for session in ("s1", "s2")]
    [True, False]
    """

    def __init__(self, secrets: Sequence[bytes] = ()) -> None:
        # Not the secret itself: it may sign tokens, too.
        self._keys = [hmac.digest(secret, b"attune/receipt", "sha256") for secret in secrets] or [
            os.urandom(SECRET_BYTES)
        ]

    def write(self, tenant: str, session: str, user: str | None, intervention_id: str, ts: int) -> str:
        """Return the receipt for an intervention of this time."""
        return f"{ts}.{_mac(self._keys[0], tenant, session, user, intervention_id, str(ts))}"

    def holds(
        self, receipt: str, tenant: str, session: str, user: str | None, intervention_id: str, now_ms: int
    ) -> bool:
        """Return whether the intervention was offered."""
        ts, _, mac = receipt.partition(".")
        if not (ts.isascii() and ts.isdigit() and mac.isascii()) or int(ts[:20]) + HOLDS_MS <= now_ms:
            return False
        return any(
            hmac.compare_digest(mac, _mac(key, tenant, session, user, intervention_id, ts)) for key in self._keys
        )


def _mac(key: bytes, tenant: str, session: str, user: str | None, intervention_id: str, ts: str) -> str:
    # Told apart by their lengths: a name may hold any printable character. None is none of them.
    parts = [part.encode() for part in (tenant, session, "" if user is None else user, intervention_id, ts)]
    message = b"".join(b"%d:%s" % (len(part), part) for part in parts) + (b"-" if user is None else b"+")
    return hmac.digest(key, message, "sha256").hex()[:DIGITS]
