"""A Ray cluster on EC2: its file for the launcher, its place in the account, its start, its end, and who watches it."""
