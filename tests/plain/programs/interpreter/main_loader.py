print(__loader__.name, __loader__.path, __loader__.get_filename(), type(__loader__))
