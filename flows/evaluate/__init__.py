"""How good the detectors are: what they told held against generated truth, or against labelled spans of real logs.

Emotions are judged in ``emotions``. For anomalies the definitions are, in sessions of the lab (whose labels are made in
``flows.generate.lab.labels``):

- A *truth* is a type that is wanted in an episode. It is *found* by the first report of its type at a tick at which
  that is open in the episode; *instead*, if the first report there is of a type ahead in the contract's order, where
  that one is open: the order lets it through first. recall = (found + instead) / truths.
- A report is *right* if its type is open at its tick in an episode with a truth, ``GRACE_TICKS`` included. More of the
  same type in the same episode are *repeats* and count no more. It is *ambiguous* where the episode has no truth, and
  counts neither way. All others are *false*, each of them, whatever the session.
  precision = right / (right + false).
- The *delay* is from the first tick at which the rule holds for sure (the onset) to the first report of the truth, in
  ticks; and, beside it, from the moment the process changed, in seconds.
- *False alarms an hour* are the false reports of healthy sessions by their hours with an audience. Sessions of a single
  visitor add no hours, but their reports count.
"""
