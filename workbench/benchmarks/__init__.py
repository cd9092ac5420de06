"""How fast and how exact the engine is on this machine, beside other programs that run the same model.

A contestant wraps one program in one precision and answers a few plain calls; a task turns those calls into figures;
the rounds of a task go through all contestants in turn, so that what slows the machine for a while slows all of them.
"""
