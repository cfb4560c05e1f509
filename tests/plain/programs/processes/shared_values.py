import multiprocessing


def add(value, array, lock):
    for _ in range(100):
        with lock:
            value.value += 1
    array[0] = 9


if __name__ == "__main__":
    context = multiprocessing.get_context("fork")
    value, array, lock = context.Value("i", 0), context.Array("d", 3), context.Lock()
    processes = [context.Process(target=add, args=(value, array, lock)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    print(value.value, array[:])
