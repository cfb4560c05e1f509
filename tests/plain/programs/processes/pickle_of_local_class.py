import pickle


def f():
    class Local:
        pass

    return Local()


try:
    pickle.dumps(f())
except Exception as error:
    print(type(error).__name__, error)
