"""An Alibaba Cloud to practise on: the read-only calls of ECI, ECS and BSS that the runbooks use, on loopback.

Alibaba's own SDKs talk to it: it checks their signatures, pages as documented, throttles, forgets terminal instances,
and answers errors with the documented codes. Which instances there are comes from the journal that `eci-node` writes;
prices and the bill are this stand-in's own reading of the vendor's pages and share nothing with `runbook/eci`.
It is no security boundary: anybody on this machine can talk to it.
"""
