print("my shutil")
