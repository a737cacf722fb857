"""Plugins that ship with tiercache. Each registers through its entry point, like anybody's."""
