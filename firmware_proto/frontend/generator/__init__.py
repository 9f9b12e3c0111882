"""From schema.toml to all that says the same in another language; :mod:`firmware_proto.frontend.generate` runs it."""
