# /// plain
# normalize = ["addresses"]
# ///
import pickle

pickle.dumps(lambda: 1)
