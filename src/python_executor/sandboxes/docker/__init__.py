"""The Docker backend: any image, one container for each execution."""
