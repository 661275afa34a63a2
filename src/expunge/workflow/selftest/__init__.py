"""The self-test: known cheats and honest placebos through the same walk as real cases, before anybody is certified.

rehearsal   a workspace whose log is a scratch one, so that nothing tried here can be mistaken for a case
methods     sabotaged methods, judged as candidates
stage       a throw-away workspace in which sabotaged processes are acted out
placebos    honest models that no check may refuse, and the power at which planted canaries are found
conduct     all of it, into one report
gate        which report vouches for a certificate
"""
