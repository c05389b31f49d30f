"""Reports for operators, from the database, the queue and the running ML backend; nothing is changed."""
