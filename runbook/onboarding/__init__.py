"""The verbs of the onboarding notebooks: one module a notebook, each with `look`, `plan` or `judge`, and `apply`."""
