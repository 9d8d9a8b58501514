import sys


def words(text):
    for word in text.split():
        yield word.upper()


def where():
    return {"executable": sys.executable, "modules": sys.modules["erlang_port"].__file__}
