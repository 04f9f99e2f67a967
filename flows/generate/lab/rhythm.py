"""How much an average person says, second by second: the intensities of the two Poisson processes, and their integrals.

A rate is constant within a second, so its integral is exact and a moment is drawn by inverting that integral.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]


def integral(per_min: Floats) -> Floats:
    """Return the integral of a rate given for each second: shape (n,) in, (n + 1,) out, in acts.

    >>> integral(np.array([60.0, 120.0])).tolist()
    [0.0, 1.0, 3.0]
    """
    return np.concatenate(([0.0], np.cumsum(per_min) / 60.0))


@dataclass(frozen=True, eq=False)
class Rhythm:
    """Rates for each second of a session, in acts a minute of a person whose ``talk`` is 1; each of shape (seconds,).

    ``calm`` are the reactions without the applause that a poll's end brings.
    """

    chat: Floats
    reactions: Floats
    calm: Floats

    @cached_property
    def chats(self) -> Floats:
        """The integral of ``chat``, shape (seconds + 1,)."""
        return integral(self.chat)

    @cached_property
    def reacted(self) -> Floats:
        """The integral of ``reactions``, shape (seconds + 1,)."""
        return integral(self.reactions)

    @cached_property
    def reacted_calmly(self) -> Floats:
        """The integral of ``calm``, shape (seconds + 1,)."""
        return integral(self.calm)


def at(grown: Floats, ms: Floats | Ints) -> Floats:
    """Return an integral's value at times in ms since its beginning, flat beyond its ends.

    >>> at(integral(np.array([60.0])), np.array([-5, 500, 1000, 9000])).tolist()
    [0.0, 0.5, 1.0, 1.0]
    """
    return np.interp(np.asarray(ms, np.float64) / 1000.0, np.arange(len(grown)), grown)


def moments(grown: Floats, values: Floats) -> Ints:
    """Return the times (ms) at which an integral reaches ``values``: the inverse of ``at``.

    >>> moments(integral(np.array([60.0, 0.0, 60.0])), np.array([0.5, 1.5])).tolist()
    [500, 2500]
    """
    rising = np.concatenate(([True], np.diff(grown) > 0))
    # A stretch without any rate is left out but for its end, where the integral begins to rise again.
    ends = rising | np.concatenate((rising[1:], [True]))
    seconds = np.flatnonzero(ends).astype(np.float64)
    return (np.interp(values, grown[ends], seconds) * 1000.0).astype(np.int64)
