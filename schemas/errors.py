"""The root of every error that Attune raises on purpose, so that a command can print it without a traceback."""


class AttuneError(Exception):
    """Something a person can mend: says what, where, what was expected and what to do."""


class ConfigError(AttuneError):
    """A setting is missing, malformed or contradicts another."""


class TransientError(AttuneError):
    """A fault outside the process that may pass by itself (broker, database, network): worth another try."""


class TerminalError(AttuneError):
    """A fault that no retry mends: data trimmed away, rights missing, a schema that does not fit."""
