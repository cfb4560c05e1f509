import multiprocessing


def work(inbox, outbox):
    while (item := inbox.get()) is not None:
        outbox.send(item * 2)


if __name__ == "__main__":
    context = multiprocessing.get_context("fork")
    inbox, (reader, writer) = context.Queue(), context.Pipe(duplex=False)
    process = context.Process(target=work, args=(inbox, writer))
    process.start()
    for n in range(3):
        inbox.put(n)
    inbox.put(None)
    print([reader.recv() for _ in range(3)])
    process.join()
