"""The scenario lab: live sessions with seeded counting noise, healthy and troubled, with labels no detector has made.

A ``Room`` is the generating process: who is there when, how much each says, how lively it is, which polls. Its
``Course`` is what the signals of each tick are then expected to be. ``labels`` decides on that course where an anomaly
can be asked for and where a report would be false; the room is played, with noise, apart from that. So a label knows
nothing of the noise that a detector sees, and nothing of the detector.

- ``rhythm``, ``room``, ``crowd``, ``happenings``, ``kinds``: the process, drawn from a seed
- ``saturated``, ``expectation``: its noise-free course
- ``falls``, ``labels``, ``episodes``: what is true of it
- ``acts``, ``traffic``: the events
"""
