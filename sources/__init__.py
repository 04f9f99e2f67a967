"""Where records come in: Kafka, files, HTTP."""
