"""The only room that knows Label Studio: its JSON (wire), its tokens, its API (client), connecting to it (connect)."""
