"""Pictures: which addresses may be fetched, fetching them, keeping them by content."""
