"""Leases of names: for loads, so that of all processes one loads a key, and for applications, as locks."""
