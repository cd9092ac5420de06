"""The subcommands of ``workbench``, one module each: ``add_parser`` adds its options, ``run`` executes it.

These modules import only argparse and other light modules at the top, so that ``--help`` is instant.
"""
