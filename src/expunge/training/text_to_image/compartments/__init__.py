"""Style compartments: a base that never saw certain artists, and beside it one adapter for each of them.

records   what lies in the directory, and what every part of it was trained on
teaching  an adapter from one artist's works and nothing else, the same bits each time
drawing   the base with the asked artist's adapter, or the base alone
dropping  a directory without one artist's adapter, and the proof that it is nowhere else
"""
