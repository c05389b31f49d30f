"""The machine: child processes, ports, the embedded Redis server."""
