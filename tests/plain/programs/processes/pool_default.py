import multiprocessing


def square(x):
    return x * x


if __name__ == "__main__":
    print(multiprocessing.get_start_method(), multiprocessing.current_process().name)
    with multiprocessing.Pool(2) as pool:
        print(sum(pool.imap_unordered(square, range(50), 5)))
