import multiprocessing
import sys
import time


def leave(code):
    sys.exit(code)


if __name__ == "__main__":
    context = multiprocessing.get_context("fork")
    for code in (None, 3):
        process = context.Process(target=leave, args=(code,))
        process.start()
        process.join()
        print(process.exitcode)
    process = context.Process(target=time.sleep, args=(60,))
    process.start()
    process.kill()
    process.join()
    print(process.exitcode)
