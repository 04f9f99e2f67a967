"""What is done to the data, in the order of its way: decode, window, score. Pure: no engine, no broker, no database."""
