"""Anomalies of sessions with an audience: what departs from their own past, beyond what counting noise explains."""
