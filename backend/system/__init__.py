"""The machine: child processes, ports, an embedded Redis."""
