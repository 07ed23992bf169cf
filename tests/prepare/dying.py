"""The beginning of a script whose process is killed at one of its renames: at that which makes `left` nought."""

DYING = """
import os, signal, sys
left = 0
def dying(function):
    def call(*arguments):
        global left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*arguments)
    return call
os.replace, os.rename = dying(os.replace), dying(os.rename)
"""
