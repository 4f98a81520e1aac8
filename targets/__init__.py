"""Built-in target descriptors: one TOML file each."""
