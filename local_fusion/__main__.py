"""`python -m local_fusion` is the command `local-fusion`."""

from local_fusion.cli import main

if __name__ == "__main__":
    main()
