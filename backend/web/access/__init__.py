"""Who may call the ML backend."""
