"""python -m behavior_llava is the command line."""

from behavior_llava.cli import main

main()
