import multiprocessing

print("imported as", __name__, flush=True)


def square(x):
    return x * x


if __name__ == "__main__":
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        print(pool.map(square, range(4)))
        pool.close()
        pool.join()
