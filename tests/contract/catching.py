"""Which laws were broken, and one law of a suite."""


def broken(found):
    return {item.law for item in found}


def only(laws, name):
    return [law for law in laws if law.__name__ == name]
