"""Hot: runs for every key."""
