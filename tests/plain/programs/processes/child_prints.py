import multiprocessing


def say():
    print("child")


if __name__ == "__main__":
    print("parent, buffered")
    process = multiprocessing.get_context("fork").Process(target=say)
    process.start()
    process.join()
    print("parent again")
