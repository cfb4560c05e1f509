import multiprocessing


def put(shared):
    shared["k"] = 1


if __name__ == "__main__":
    context = multiprocessing.get_context("fork")
    with context.Manager() as manager:
        shared = manager.dict()
        process = context.Process(target=put, args=(shared,))
        process.start()
        process.join()
        print(dict(shared))
