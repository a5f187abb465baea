"""What is done to stored cards at the command line: `cardswitch vault`."""
