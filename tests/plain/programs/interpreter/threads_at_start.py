import threading

print(threading.active_count(), threading.current_thread().name, threading.current_thread().daemon)
print(threading.main_thread() is threading.current_thread(), threading.stack_size(), threading.excepthook.__name__)
