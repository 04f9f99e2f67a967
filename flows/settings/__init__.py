"""Settings: ``attune.toml``, then ``ATTUNE_...`` environment variables, checked as a whole.

``load`` gives a ``Settings`` or raises ``SettingsError`` with every fault at once. ``flows.settings.convert`` and
``flows.settings.servers`` turn its sections into the plain dataclasses of the rooms below, which know nothing of files
and variables.
"""

from flows.settings.load import Fault, SettingsError, load
from flows.settings.model import Settings

__all__ = ["Fault", "Settings", "SettingsError", "load"]
