"""The subcommands of ``workbench``, one module each: ``add_parser`` describes it, ``run`` does it.

Only argparse and other light modules load at the top of these files, so that ``--help`` answers at once.
"""
