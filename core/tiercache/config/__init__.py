"""Cold: runs once, when a cache is opened."""
