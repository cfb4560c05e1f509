import multiprocessing
from concurrent.futures import ProcessPoolExecutor, as_completed


def cube(x):
    return x**3


if __name__ == "__main__":
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("fork")) as pool:
        print(sorted(future.result() for future in as_completed([pool.submit(cube, n) for n in range(5)])))
