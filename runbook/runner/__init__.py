"""What GitLab Runner reads (config.toml) and makes (job pods), by the version that does it. Pure: no network, no clock, no environment."""
