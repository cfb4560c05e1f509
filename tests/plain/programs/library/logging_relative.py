import logging

record = logging.makeLogRecord({})
print(0 <= record.relativeCreated < 5000, record.process == __import__("os").getpid(), record.processName, record.threadName)
