"""How corrections come in: by webhook, and by comparison with Label Studio."""
