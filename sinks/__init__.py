"""Where results go: topics, tables and websockets. Knows the schemas and nothing else of ours."""
