"""All knowledge of Label Studio: its JSON (wire), tokens, API (client), and how to connect a project (connect)."""
