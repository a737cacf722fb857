"""The sample distribution's own tests run where it is installed: see test_install.py."""

collect_ignore = ["tiercache_shelf"]
