"""How fast, said as ratios of one run on one machine: `make bench`. One module a subject; its `measure()` yields its figures."""
