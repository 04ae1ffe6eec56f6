"""Pure functions and values: arrays and geometry in, arrays and geometry out.

No Dagster, Ray, S3, network or environment.
"""
