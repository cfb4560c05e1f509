import multiprocessing


def fail(x):
    return 1 / x


if __name__ == "__main__":
    with multiprocessing.get_context("fork").Pool(1) as pool:
        try:
            pool.map(fail, [1, 0])
        except ZeroDivisionError as error:
            print(type(error), error, type(error.__cause__).__name__)
