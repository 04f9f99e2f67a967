"""Live records for browsers: a hub without I/O, a thin websocket server around it, and the engine's sink."""
