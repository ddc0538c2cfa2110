"""A model worker: one version in a process of its own, that answers over a socket."""
