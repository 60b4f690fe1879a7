"""The practice cluster: everything that is outside ourselves, on one machine, started and stopped as one thing."""
