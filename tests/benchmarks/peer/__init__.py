"""`make bench`: this project beside eo-grow 1.7.15, over the same tiles on the same machine."""
