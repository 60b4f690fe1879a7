"""Runbooks that bring GitLab CI onto an Alibaba Cloud serverless Kubernetes cluster.

The package exports nothing here, so that `import runbook.eci` loads no client and no chart.
"""
