"""The second demo: a year of cloudy Landsat acquisitions, composited to the same columns in every tile."""
