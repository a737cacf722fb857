"""The serializers that ship: the module is named like the type in the TOML."""
