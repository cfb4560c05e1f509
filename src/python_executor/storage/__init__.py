"""What must outlive the process. `base` is the port."""
