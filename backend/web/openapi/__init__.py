"""The description of the HTTP API by OpenAPI 3.1."""
