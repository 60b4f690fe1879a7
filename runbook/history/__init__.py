"""The life of every job pod, kept after GitLab has deleted it: one record a pod, how it is observed, stored and filled from other sources."""
