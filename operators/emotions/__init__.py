"""What a visitor's telemetry shows of how he feels: rules as data, and the matcher that follows each visitor."""
