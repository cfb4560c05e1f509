from helper import missing
