"""The Dagster of a team as deploy/ describes it."""
