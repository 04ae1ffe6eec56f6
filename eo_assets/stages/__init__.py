"""One module a tile stage, and the walk of one tile through them. Runs on a worker and knows no Dagster."""
