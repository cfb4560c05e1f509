import atexit; atexit.register(print, 'bye'); 1 / 0
