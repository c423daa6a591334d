"""The publishing use case: plan, build, deliver. The command line and the GitHub Action both stand on it."""
