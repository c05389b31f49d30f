"""The machine: devices and their memory, files, terminals."""
