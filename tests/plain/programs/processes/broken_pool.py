import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool


def die(_):
    os._exit(1)


if __name__ == "__main__":
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("fork")) as pool:
        try:
            list(pool.map(die, [1]))
        except BrokenProcessPool as error:
            print("broken", str(error)[:20])
