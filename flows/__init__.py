"""The top floor: settings, the command line, and the composition roots that wire sources, operators and sinks."""
