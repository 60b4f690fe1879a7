"""What takes long to prove: `make soak`. Each module has a short form of itself in `make test`."""
