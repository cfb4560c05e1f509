import gc

print(gc.get_threshold(), gc.isenabled(), gc.get_freeze_count(), gc.callbacks, gc.garbage)
