import multiprocessing


def hello(queue):
    queue.put("from the server")


if __name__ == "__main__":
    context = multiprocessing.get_context("forkserver")
    queue = context.Queue()
    process = context.Process(target=hello, args=(queue,))
    process.start()
    print(queue.get())
    process.join()
    print(process.exitcode)
