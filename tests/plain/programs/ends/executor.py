from concurrent.futures import ThreadPoolExecutor
ThreadPoolExecutor(1).submit(lambda: print('in pool'))
