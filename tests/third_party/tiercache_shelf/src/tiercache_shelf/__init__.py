"""Stages for tiercache by somebody else, made of its public names and the standard library alone."""
