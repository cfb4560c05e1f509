print("main runs as", __name__)
import helper
