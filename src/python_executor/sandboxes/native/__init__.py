"""The native backend: namespaces, cgroups and seccomp around processes cloned from a zygote; Linux only."""
