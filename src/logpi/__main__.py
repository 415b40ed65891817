"""python -m logpi"""

from logpi.run.cli import main

main()
