"""The REST doors, one module a noun; each ends with its table of endpoints."""
