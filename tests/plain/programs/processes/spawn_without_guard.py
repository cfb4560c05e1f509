import multiprocessing


def f():
    pass


process = multiprocessing.get_context("spawn").Process(target=f)
process.start()
process.join()
print("exit", process.exitcode)
