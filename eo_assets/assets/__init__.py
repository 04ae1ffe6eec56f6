"""The Dagster shell: every asset reads its inputs, calls one function and returns metadata."""
