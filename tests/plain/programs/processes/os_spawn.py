import os

print(os.spawnlp(os.P_WAIT, "sh", "sh", "-c", "exit 5"), os.waitstatus_to_exitcode(256))
