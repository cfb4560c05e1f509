import signal

for name in ("SIGINT", "SIGTERM", "SIGPIPE", "SIGXFSZ", "SIGCHLD", "SIGHUP", "SIGUSR1"):
    handler = signal.getsignal(getattr(signal, name))
    print(name, getattr(handler, "__name__", handler))
