"""All SQL: the schema, and the one store that reads and writes it."""
