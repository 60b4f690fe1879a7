"""The life of every job pod, kept after GitLab has deleted it: one record a pod, observed, stored, completed."""
