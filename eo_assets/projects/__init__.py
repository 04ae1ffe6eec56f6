"""Project files that ship with the package."""
