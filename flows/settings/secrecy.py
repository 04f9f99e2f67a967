"""Which settings are secret, and how a text that may hold one is masked."""

import re
from typing import Final

MASK: Final = "**********"

_SECRET_NAME = re.compile(
    r"password|passwd|passphrase|secret|token|credential|jaas|\.pem$|_pem$|oauthbearer[._]config$", re.IGNORECASE
)
_NOT_SECRET = re.compile(r"endpoint|location|token_ttl|file$", re.IGNORECASE)
_URL_PASSWORD = re.compile(r"(?P<head>[a-z][a-z0-9+.-]{0,20}://[^\s/:@]{0,256}:)[^\s@]{1,512}@", re.IGNORECASE)
_ASSIGNED = re.compile(r"(?P<head>\b(?:password|passwd)\s{0,8}=\s{0,8})(?:'[^']{0,512}'|\S{1,512})", re.IGNORECASE)


def is_secret_name(name: str) -> bool:
    """Tell whether a setting, log field or librdkafka option of this name holds a secret.

    >>> is_secret_name("sasl.password"), is_secret_name("ssl.key.pem"), is_secret_name("ssl.key.location")
    (True, True, False)
    """
    return bool(_SECRET_NAME.search(name)) and not _NOT_SECRET.search(name)


def mask_text(text: str, secrets: frozenset[str] = frozenset()) -> str:
    """Return ``text`` without the known secrets and without passwords in URLs or behind ``password=``.

    >>> mask_text("no route to postgresql://app:hunter2@db/attune")
    'no route to postgresql://app:**********@db/attune'
    """
    for secret in secrets:
        text = text.replace(secret, MASK)
    if "://" in text:
        text = _URL_PASSWORD.sub(rf"\g<head>{MASK}@", text)
    return _ASSIGNED.sub(rf"\g<head>{MASK}", text) if "=" in text else text
