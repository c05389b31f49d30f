"""`captioner up`: every process of the loop on one machine, started, watched and stopped together."""
