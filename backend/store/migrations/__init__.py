"""The history of the SQL schema, run by `Database.migrate`."""
