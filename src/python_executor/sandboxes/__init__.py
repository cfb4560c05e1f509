"""Where code runs. `base` is the port; each folder beside it is a backend."""
