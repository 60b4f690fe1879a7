"""What pods cost: a frame of priced pods in, one answer a question out. Pure: no network, no clock, no environment."""
