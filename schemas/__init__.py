"""Ground floor: the typed records of the wire, the registry of topics, and what crosses between rooms."""
