"""What is told to operators, read from the database only."""
