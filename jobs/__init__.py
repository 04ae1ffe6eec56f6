"""Selections, jobs, sensors and schedules: what is launched together, and when."""
